/*
 * With `reconnect` a connection outlives its peer: the server dies and comes back, and the same handle is open
 * again. The program is told each time; what was sent meanwhile goes out then; what the dead one did not get any
 * more is counted.
 */
#include "remote.h"

#include <unistd.h>

enum { DEATHS = 4 };

static tally seen;
static latch down;
static _Atomic uint64_t handle;
static char text[256]; /* what has come back since the connection was open last */
static size_t used;

static void on_open(ahoy_conn conn, void *user) {
    CHECK_EQ(latch_count(&down) > 0, latch_count(&seen.opened) > 0);
    used = 0;
    handle = conn.id;
    tally_open(conn, user);
}

static void on_message(ahoy_conn conn, const void *data, size_t len, void *user) {
    CHECK(used + len < sizeof text);
    memcpy(text + used, data, len);
    text[used += len] = '\0';
    CHECK_EQ(conn.id, handle);
    tally_message(conn, data, len, user);
}

/* A loss shows as an end or a reset; a try that fails, as a refusal. */
static void on_down(ahoy_conn conn, ahoy_status reason, void *user) {
    CHECK(user == &seen);
    CHECK(ahoy_conn_user(conn) == &seen);
    CHECK(reason == AHOY_ERR_EOF || reason == AHOY_ERR_RESET || reason == AHOY_ERR_REFUSED);
    CHECK_EQ(latch_count(&seen.closed), 0);
    latch_add(&down, 1);
}

static ahoy_server begin(void) {
    seen = (tally)TALLY_INIT;
    down = (latch)LATCH_INIT;
    return start(OPTIONS(.workers = 2, .queue_bytes_max = 32 * 1024 * 1024, .message_bytes_max = 16 * 1024 * 1024,
                         .on_open = on_open, .on_message = on_message, .on_close = tally_close));
}

static ahoy_conn connect_again(ahoy_server server, const char *urls) {
    return outgoing(server, urls, CONNECT_OPTIONS(.user = &seen, .on_free = tally_free, .on_down = on_down,
                                                  .reconnect = 1, .reconnect_min_ms = 1, .reconnect_max_ms = 20));
}

static void dies_and_comes_back(void) {
    remote far = remote_process(true);
    ahoy_server server = begin();
    ahoy_conn conn = connect_again(server, far.url);
    long bytes = 0;
    for (long life = 1; life <= DEATHS; life++) {
        latch_wait(&seen.opened, life);
        CHECK_EQ(handle, conn.id);
        if (life > 1) {
            latch_wait(&seen.bytes, bytes += 12); /* what was sent while nobody was there, in order */
            CHECK_TEXT(text, "first second");
        }
        CHECK_OK(ahoy_send(conn, "echo", 4));
        latch_wait(&seen.bytes, bytes += 4);

        long downs = latch_count(&down);
        remote_kill(&far);
        latch_wait(&down, downs + 3); /* the loss, and two tries at least */
        CHECK_EQ(ahoy_conn_server(conn).id, server.id);
        CHECK_OK(ahoy_send(conn, "first ", 6));
        CHECK_OK(ahoy_send(conn, "second", 6));
        CHECK_EQ(latch_count(&seen.opened), life);
        remote_start(&far, true);
    }
    latch_wait(&seen.opened, DEATHS + 1);
    latch_wait(&seen.bytes, bytes + 12);
    ahoy_stats stats = stats_of(server);
    CHECK_EQ(stats.bytes_cut, 0);
    CHECK(stats.connects_failed >= 2 * DEATHS);
    CHECK_EQ(stats.connections, 1);
    CHECK_EQ(stats.connecting, 0);

    CHECK_OK(ahoy_conn_close(conn));
    latch_wait(&seen.freed, 1);
    CHECK_STATUS(seen.reason, AHOY_OK);
    CHECK_EQ(latch_count(&seen.closed), 1);
    ahoy_server_free(server);
    CHECK_EQ(latch_count(&seen.freed), 1);
    remote_end(&far);
}

/* The peer takes little, and dies: what it did not take is cut, and what is sent later is not. */
static void what_was_queued_is_cut(void) {
    enum { LARGE = 8 * 1024 * 1024 };
    static char large[LARGE];
    remote far = remote_process(false);
    ahoy_server server = begin();
    ahoy_conn conn = connect_again(server, far.url);
    latch_wait(&seen.opened, 1);
    CHECK_OK(ahoy_send(conn, large, LARGE));
    WAIT_UNTIL(stats_of(server).bytes_out > 0);
    remote_kill(&far);
    latch_wait(&down, 2);
    WAIT_UNTIL(stats_of(server).bytes_cut > 0);
    ahoy_stats stats = stats_of(server);
    CHECK_EQ(stats.bytes_out + stats.bytes_cut, LARGE);
    CHECK_EQ(stats.connections_cut, 1);
    CHECK_EQ(stats.bytes_queued, 0);
    CHECK_EQ(ahoy_conn_queued(conn), 0);
    CHECK_OK(ahoy_send(conn, "echo", 4));
    WAIT_UNTIL(ahoy_conn_queued(conn) == 4);

    remote_start(&far, true);
    latch_wait(&seen.bytes, 4);
    CHECK_TEXT(text, "echo"); /* not a byte of what was lost */
    CHECK_EQ(stats_of(server).bytes_cut, stats.bytes_cut);
    CHECK_EQ(stats_of(server).bytes_out, stats.bytes_out + 4);
    ahoy_server_free(server);
    CHECK_STATUS(seen.reason, AHOY_ERR_STOPPED);
    CHECK_EQ(latch_count(&seen.closed), 1);
    CHECK_EQ(latch_count(&seen.freed), 1);
    remote_end(&far);
}

/* It begins with the first URL again, whichever was open last. */
static void begins_with_the_first(void) {
    remote first = remote_process(true), second = remote_process(true);
    char list[160], peer[64];
    snprintf(list, sizeof list, "%s,%s", first.url, second.url);
    ahoy_server server = begin();
    ahoy_conn conn = connect_again(server, list);
    latch_wait(&seen.opened, 1);
    CHECK_OK(ahoy_conn_peer(conn, peer, sizeof peer));
    CHECK_TEXT(peer, first.url);
    remote_kill(&first);
    latch_wait(&seen.opened, 2);
    CHECK_OK(ahoy_conn_peer(conn, peer, sizeof peer));
    CHECK_TEXT(peer, second.url);
    remote_start(&first, true);
    remote_kill(&second);
    latch_wait(&seen.opened, 3);
    CHECK_OK(ahoy_conn_peer(conn, peer, sizeof peer));
    CHECK_TEXT(peer, first.url);
    CHECK_EQ(handle, conn.id);

    /* Topics are joined for good. */
    CHECK_OK(ahoy_conn_join(conn, "news"));
    remote_kill(&first);
    remote_start(&second, true);
    latch_wait(&seen.opened, 4);
    CHECK_OK(ahoy_publish(server, "news", "echo", 4));
    latch_wait(&seen.bytes, 4);
    CHECK_TEXT(text, "echo");
    ahoy_server_free(server);
    remote_end(&first), remote_end(&second);
}

int main(void) {
    holdings before = holdings_now();
    dies_and_comes_back();
    what_was_queued_is_cut();
    begins_with_the_first();
    CHECK_HOLDINGS(before);
    return 0;
}
