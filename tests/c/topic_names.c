/*
 * Names of topics: 1 to 255 bytes of UTF-8. Others are refused by each of the five calls, and nothing is taken over.
 * So are a connection that closes, one that is gone, a server that has stopped, and data that is too long.
 */
#include "support.h"

#include <unistd.h>

enum { MESSAGE_MAX = 1000 };

static tally seen = TALLY_INIT;
static latch freed = LATCH_INIT, heard = LATCH_INIT;
static ahoy_server server;
static ahoy_conn conn;

static void on_topic(ahoy_server server, const char *topic, const void *data, size_t len, void *user) {
    (void)server, (void)topic, (void)data, (void)len, (void)user;
    latch_add(&heard, 1);
}

static void refuse(const char *topic, ahoy_status expected) {
    ahoy_subscription subscription = { 77 };
    long freed_before = latch_count(&freed);
    CHECK_STATUS(ahoy_conn_join(conn, topic), expected);
    CHECK_STATUS(ahoy_conn_leave(conn, topic), expected);
    CHECK_STATUS(ahoy_publish(server, topic, "x", 1), expected);
    CHECK_STATUS(ahoy_subscribe(server, topic, on_topic, &freed, count_free, &subscription), expected);
    CHECK_EQ(subscription.id, 77);
    CHECK_EQ(latch_count(&freed), freed_before);
}

static void take(const char *topic, int fd) {
    char byte;
    long before = latch_count(&heard), freed_before = latch_count(&freed);
    ahoy_subscription subscription;
    CHECK_OK(ahoy_subscribe(server, topic, on_topic, &freed, count_free, &subscription));
    CHECK_OK(ahoy_conn_join(conn, topic));
    CHECK_OK(ahoy_publish(server, topic, "x", 1));
    latch_wait(&heard, before + 1);
    recv_exact(fd, &byte, 1);
    CHECK_OK(ahoy_conn_leave(conn, topic));
    CHECK_OK(ahoy_unsubscribe(subscription));
    latch_wait(&freed, freed_before + 1);
}

static void on_close(ahoy_conn conn, ahoy_status reason, void *user) {
    CHECK_STATUS(ahoy_conn_join(conn, "topic"), AHOY_ERR_CLOSED);
    tally_close(conn, reason, user);
}

static void on_message(ahoy_conn conn, const void *data, size_t len, void *user) {
    CHECK_OK(ahoy_conn_close(conn));
    CHECK_STATUS(ahoy_conn_join(conn, "topic"), AHOY_ERR_CLOSED);
    tally_message(conn, data, len, user);
}

int main(void) {
    server = start(OPTIONS(.listen = LOOPBACK, .workers = 1, .user = &seen, .message_bytes_max = MESSAGE_MAX,
                           .on_open = tally_open, .on_message = on_message, .on_close = on_close));
    int fd = dial(server);
    latch_wait(&seen.opened, 1);
    conn = tally_conn(&seen);

    static char name[300], data[MESSAGE_MAX + 1];
    refuse(NULL, AHOY_ERR_NULL);
    refuse("", AHOY_ERR_INVALID);
    refuse("\xff", AHOY_ERR_INVALID);
    refuse("half a letter \xc3", AHOY_ERR_INVALID);
    refuse("\xc0\xaf", AHOY_ERR_INVALID);
    refuse("\xed\xa0\x80", AHOY_ERR_INVALID);
    memset(name, 'n', sizeof name - 1);
    refuse(name, AHOY_ERR_TOO_LONG);
    name[256] = '\0';
    refuse(name, AHOY_ERR_TOO_LONG);
    name[255] = '\0';
    take(name, fd);
    name[254] = '\xc3', name[255] = '\xa9', name[256] = '\0'; /* 256 bytes, 255 letters */
    refuse(name, AHOY_ERR_TOO_LONG);
    take("x", fd);
    take(" ", fd);
    take("*", fd);
    take(">", fd);
    take("\xe6\xb8\xaf\xe5\x8f\xa3.\xf0\x9f\x9a\xa2", fd);

    CHECK_STATUS(ahoy_publish(server, "topic", NULL, 1), AHOY_ERR_NULL);
    CHECK_STATUS(ahoy_publish(server, "topic", data, MESSAGE_MAX + 1), AHOY_ERR_TOO_LONG);
    CHECK_STATUS(ahoy_publish(server, "topic", data, SIZE_MAX), AHOY_ERR_TOO_LONG);
    CHECK_OK(ahoy_publish(server, "topic", data, MESSAGE_MAX));
    CHECK_OK(ahoy_publish(server, "topic", NULL, 0));
    long freed_before = latch_count(&freed);
    CHECK_STATUS(ahoy_subscribe(server, "topic", NULL, &freed, count_free, NULL), AHOY_ERR_NULL);

    send_all(fd, "x", 1); /* it closes, and tries to join while it does */
    latch_wait(&seen.closed, 1);
    CHECK_EQ(latch_count(&seen.messages), 1);
    WAIT_UNTIL(ahoy_conn_server(conn).id == 0);
    CHECK_STATUS(ahoy_conn_join(conn, "topic"), AHOY_ERR_STALE);
    CHECK_STATUS(ahoy_conn_leave(conn, "topic"), AHOY_ERR_STALE);
    CHECK_STATUS(ahoy_conn_join((ahoy_conn){ 0 }, "topic"), AHOY_ERR_STALE);
    close(fd);

    CHECK_OK(ahoy_server_stop(server, 0));
    CHECK_OK(ahoy_server_wait(server));
    CHECK_STATUS(ahoy_publish(server, "topic", "x", 1), AHOY_ERR_STOPPED);
    CHECK_STATUS(ahoy_subscribe(server, "topic", on_topic, &freed, count_free, NULL), AHOY_ERR_STOPPED);
    ahoy_server_free(server);
    CHECK_STATUS(ahoy_publish(server, "topic", "x", 1), AHOY_ERR_STALE);
    CHECK_STATUS(ahoy_subscribe(server, "topic", on_topic, &freed, count_free, NULL), AHOY_ERR_STALE);
    CHECK_STATUS(ahoy_publish((ahoy_server){ 0 }, "topic", "x", 1), AHOY_ERR_STALE);
    CHECK_EQ(latch_count(&freed), freed_before);
    return 0;
}
