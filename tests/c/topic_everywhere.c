/*
 * A publish, a join or a leave is legal in every callback of the server, in those of another server, and on the way
 * to the end: publishing to who is left from on_close, from an on_free, after a stop.
 */
#include "wire.h"

#include <unistd.h>

static tally seen = TALLY_INIT, other_seen = TALLY_INIT;
static ahoy_server server, other;
static latch freed = LATCH_INIT;

/* What an own on_free finds depends on how far the end has come. */
static void publish_when_freed(void *user) {
    ahoy_status status = ahoy_publish(server, "all", "freed", 5);
    CHECK(status == AHOY_OK || status == AHOY_ERR_STOPPED || status == AHOY_ERR_STALE);
    latch_add(user, 1);
}

static void on_open(ahoy_conn conn, void *user) {
    CHECK_OK(ahoy_conn_join(conn, "all"));
    CHECK_OK(ahoy_publish(server, "all", "opened", 6));
    CHECK_OK(ahoy_conn_set_user(conn, user, NULL));
    tally_open(conn, user);
}

static void on_message(ahoy_conn conn, const void *data, size_t len, void *user) {
    CHECK_OK(ahoy_conn_leave(conn, "all"));
    CHECK_OK(ahoy_publish(server, "all", data, len)); /* not to itself */
    CHECK_OK(ahoy_conn_join(conn, "all"));
    CHECK_OK(ahoy_publish(server, "all", data, len));
    tally_message(conn, data, len, user);
}

static void on_end(ahoy_conn conn, void *user) {
    CHECK_OK(ahoy_publish(server, "all", "ended", 5));
    CHECK_OK(ahoy_conn_close(conn));
    tally_end(conn, user);
}

/* Whoever is over is in no topic any more. */
static void on_close(ahoy_conn conn, ahoy_status reason, void *user) {
    ahoy_status status = ahoy_publish(server, "all", "closed", 6);
    CHECK(status == AHOY_OK || (status == AHOY_ERR_STOPPED && reason == AHOY_ERR_STOPPED));
    status = ahoy_conn_leave(conn, "all");
    CHECK(status == AHOY_OK || status == AHOY_ERR_CLOSED);
    tally_close(conn, reason, user);
}

static void on_timer(ahoy_timer timer, ahoy_conn conn, void *user) {
    (void)timer, (void)conn, (void)user;
    CHECK_OK(ahoy_publish(server, "all", "timer", 5));
}

/* Each server's callback publishes in the other. */
static void pass_on(ahoy_conn conn, const void *data, size_t len, void *user) {
    CHECK_OK(ahoy_publish(server, "all", data, len));
    tally_message(conn, data, len, user);
}

static void hear(ahoy_server from, const char *topic, const void *data, size_t len, void *user) {
    (void)topic, (void)user;
    CHECK_EQ(from.id, server.id);
    if (len == 4 && memcmp(data, "back", 4) == 0) CHECK_OK(ahoy_publish(other, "there", "here", 4));
}

static void hear_there(ahoy_server from, const char *topic, const void *data, size_t len, void *user) {
    (void)topic, (void)user;
    CHECK_EQ(from.id, other.id);
    CHECK(len == 4 && memcmp(data, "here", 4) == 0);
    latch_add(&other_seen.bytes, 1);
}

static void expect(int fd, const char *message) {
    wire_expect(&wires[0], fd, message, strlen(message));
}

int main(void) {
    char last[32] = "";
    server = start(OPTIONS(.listen = LOOPBACK, .workers = 2, .user = &seen, .framing = AHOY_FRAMING_LINES,
                           .on_open = on_open, .on_message = on_message, .on_end = on_end, .on_close = on_close));
    other = start(OPTIONS(.listen = LOOPBACK, .workers = 1, .user = &other_seen, .on_message = pass_on));
    int one = dial(server), two;
    expect(one, "opened");
    two = dial(server);
    expect(one, "opened"), expect(two, "opened");

    wire_send(&wires[0], two, "said", 4);
    expect(one, "said"), expect(one, "said"), expect(two, "said");
    CHECK_OK(ahoy_timer_start(server, 1, 0, on_timer, &freed, publish_when_freed, NULL));
    expect(one, "timer"), expect(one, "freed");
    expect(two, "timer"), expect(two, "freed");

    /* From the other server and back again. */
    CHECK_OK(ahoy_subscribe(server, "all", hear, &freed, publish_when_freed, NULL));
    CHECK_OK(ahoy_subscribe(other, "there", hear_there, NULL, NULL, NULL));
    int there = dial(other);
    send_all(there, "back", 4);
    expect(one, "back"), expect(two, "back");
    latch_wait(&other_seen.bytes, 1);

    close(two);
    expect(one, "ended"), expect(one, "closed");

    /* Once it stops nothing is published any more, and nobody waits for it. */
    CHECK_OK(ahoy_server_stop(server, AHOY_DRAIN_DEFAULT));
    CHECK_OK(ahoy_server_wait(server));
    CHECK_STATUS(ahoy_publish(server, "all", "late", 4), AHOY_ERR_STOPPED);
    /* The subscription may have ended on its worker while the connection was open on the other. */
    ssize_t rest = recv_until_eof(one, last, sizeof last);
    CHECK(rest == 0 || (rest == 6 && memcmp(last, "freed\n", 6) == 0));
    CHECK_EQ(latch_count(&freed), 2);
    CHECK_EQ(latch_count(&seen.closed), 2);
    close(one), close(there);
    ahoy_server_free(server);
    ahoy_server_free(other);
    return 0;
}
