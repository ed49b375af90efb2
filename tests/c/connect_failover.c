/*
 * Several URLs are tried in order: those after the first stand in for it. One that does not answer gets its share
 * of the time, not all of it.
 */
#include "remote.h"

static tally served = TALLY_INIT, seen;
static ahoy_server near;

/* Milliseconds until the echo has come from the listener `expected`. */
static long reaches(const char *urls, const char *expected, uint32_t connect_ms) {
    char peer[128];
    long closed = latch_count(&served.closed);
    seen = (tally)TALLY_INIT;
    long begin = now_ms();
    ahoy_conn conn = outgoing(near, urls, CONNECT_OPTIONS(.user = &seen, .connect_ms = connect_ms));
    CHECK_OK(ahoy_send(conn, "echo", 4));
    latch_wait(&seen.bytes, 4);
    long spent = now_ms() - begin;
    CHECK_EQ(latch_count(&seen.opened), 1);
    CHECK_OK(ahoy_conn_peer(conn, peer, sizeof peer));
    CHECK_TEXT(peer, expected);
    CHECK_OK(ahoy_conn_close(conn));
    latch_wait(&seen.closed, 1);
    CHECK_STATUS(seen.reason, AHOY_OK);
    latch_wait(&served.closed, closed + 1);
    return spent;
}

int main(void) {
    enum { CONNECT_MS = 600 };
    holdings before = holdings_now();
    remote dead = remote_dead(), hole = remote_black_hole();
    ahoy_server far = start(OPTIONS(.listen = "tcp://127.0.0.1:0,tcp://127.0.0.1:0", .workers = 1, .user = &served,
                                    .on_message = tally_echo, .on_close = tally_close));
    near = start(OPTIONS(.workers = 1, .on_open = tally_open, .on_message = tally_message,
                         .on_close = tally_close));
    char alive[128], other[128], list[1024];
    CHECK_OK(ahoy_server_address(far, 0, alive, sizeof alive));
    CHECK_OK(ahoy_server_address(far, 1, other, sizeof other));

    /* The first that lives is taken, wherever it stands. */
    snprintf(list, sizeof list, "%s,%s", alive, other);
    reaches(list, alive, 0);
    snprintf(list, sizeof list, "%s,%s,%s", dead.url, alive, other);
    reaches(list, alive, 0);
    snprintf(list, sizeof list, "tcp://nobody.invalid:1,%s,unix:@nobody-here,%s,%s", dead.url, alive, hole.url);
    reaches(list, alive, 0);
    CHECK_EQ(stats_of(near).connects_failed, 1 + 3);

    /* A black hole gets its share: half of the time where one more is there, a third where two are. */
    snprintf(list, sizeof list, "%s,%s", hole.url, alive);
    long spent = reaches(list, alive, CONNECT_MS);
    CHECK(spent >= CONNECT_MS / 2 - 30);
    if (!is_slow()) CHECK(spent < CONNECT_MS);
    snprintf(list, sizeof list, "%s,%s,%s", hole.url, hole.url, alive);
    spent = reaches(list, alive, CONNECT_MS);
    CHECK(spent >= CONNECT_MS * 2 / 3 - 60);
    if (!is_slow()) CHECK(spent < CONNECT_MS);

    /* What one entry does not need is left for the others. */
    snprintf(list, sizeof list, "%s,%s,%s", dead.url, hole.url, alive);
    spent = reaches(list, alive, CONNECT_MS);
    CHECK(spent >= CONNECT_MS / 2 - 30);
    if (!is_slow()) CHECK(spent < CONNECT_MS);

    CHECK_EQ(latch_count(&served.messages), 6);
    ahoy_server_free(near);
    ahoy_server_free(far);
    remote_end(&dead), remote_end(&hole);
    CHECK_HOLDINGS(before);
    return 0;
}
