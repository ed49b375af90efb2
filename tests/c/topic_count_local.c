/* How many connections are in a topic, without a cluster. */
#include "support.h"

#include <unistd.h>

static tally seen = TALLY_INIT;
static latch told = LATCH_INIT, joined = LATCH_INIT, asked = LATCH_INIT;
static _Atomic long last;
static __thread bool calling;

static void on_count(ahoy_server server, ahoy_status status, uint64_t connections, size_t silent, void *user) {
    uint64_t count;
    CHECK(!calling && user == &told);
    CHECK_OK(status);
    CHECK_EQ(silent, 0);
    last = (long)connections;
    CHECK_STATUS(ahoy_topic_count_wait(server, "lobby", &count), AHOY_ERR_DEADLOCK);
    latch_add(&told, 1);
}

static ahoy_status begin(ahoy_server server, const char *topic) {
    calling = true;
    ahoy_status status = ahoy_topic_count(server, topic, on_count, &told);
    calling = false;
    return status;
}

static void on_open(ahoy_conn conn, void *user) {
    (void)user;
    CHECK_OK(ahoy_conn_join(conn, "lobby"));
    CHECK_OK(ahoy_conn_join(conn, "lobby"));
    latch_add(&joined, 1);
}

static void on_message(ahoy_conn conn, const void *data, size_t len, void *user) {
    (void)data, (void)len, (void)user;
    CHECK_OK(begin(ahoy_conn_server(conn), "lobby"));
    CHECK_OK(ahoy_conn_leave(conn, "lobby"));
    latch_add(&asked, 1);
}

static void nothing(ahoy_server server, const char *topic, const void *data, size_t len, void *user) {
    (void)server, (void)topic, (void)data, (void)len, (void)user;
}

static uint64_t count_of(ahoy_server server, const char *topic) {
    uint64_t count = 77;
    CHECK_OK(ahoy_topic_count_wait(server, topic, &count));
    return count;
}

int main(void) {
    holdings before = holdings_now();
    uint64_t count;
    char longest[257];
    memset(longest, 'x', 256);
    longest[256] = 0;
    ahoy_server server = start(OPTIONS(.listen = LOOPBACK, .workers = 2, .user = &seen, .on_open = on_open,
                                       .on_message = on_message));
    int fds[3];
    for (int i = 0; i < 3; i++) fds[i] = dial(server);
    latch_wait(&joined, 3);
    CHECK_OK(ahoy_subscribe(server, "lobby", nothing, NULL, NULL, NULL)); /* is no connection */
    CHECK_EQ(count_of(server, "lobby"), 3);
    CHECK_EQ(count_of(server, "nobody"), 0);
    CHECK_OK(begin(server, "lobby"));
    latch_wait(&told, 1);
    CHECK_EQ(last, 3);

    send_all(fds[0], "x", 1);
    latch_wait(&asked, 1);
    latch_wait(&told, 2);
    CHECK_EQ(last, 3); /* it was in it when it asked */
    CHECK_EQ(count_of(server, "lobby"), 2);
    close(fds[1]);
    WAIT_UNTIL(count_of(server, "lobby") == 1);

    CHECK_STATUS(begin(server, NULL), AHOY_ERR_NULL);
    CHECK_STATUS(begin(server, ""), AHOY_ERR_INVALID);
    CHECK_STATUS(begin(server, longest), AHOY_ERR_TOO_LONG);
    CHECK_STATUS(ahoy_topic_count(server, "lobby", NULL, NULL), AHOY_ERR_NULL);
    CHECK_STATUS(ahoy_topic_count_wait(server, "lobby", NULL), AHOY_ERR_NULL);
    CHECK_STATUS(ahoy_topic_count_wait(server, NULL, &count), AHOY_ERR_NULL);
    CHECK_STATUS(ahoy_topic_count_wait(server, "", &count), AHOY_ERR_INVALID);

    CHECK_OK(begin(server, "lobby"));
    CHECK_OK(ahoy_server_stop(server, 0));
    CHECK_OK(ahoy_server_wait(server));
    CHECK_EQ(latch_count(&told), 3);
    CHECK_STATUS(begin(server, "lobby"), AHOY_ERR_STOPPED);
    CHECK_STATUS(ahoy_topic_count_wait(server, "lobby", &count), AHOY_ERR_STOPPED);
    ahoy_server_free(server);
    CHECK_STATUS(begin(server, "lobby"), AHOY_ERR_STALE);
    close(fds[0]), close(fds[2]);
    CHECK_HOLDINGS(before);
    return 0;
}
