/*
 * ahoy_connect reaches every kind of stream listener. The handle is good at once, what is sent before on_open is
 * queued and arrives in order, and the peer is told as a URL.
 */
#include "support.h"

#include <unistd.h>

enum { PIECES = 100, PIECE_BYTES = 700, TOTAL_BYTES = PIECES * PIECE_BYTES };

static tally served, seen;
static size_t received; /* by the one connection, on its one worker */
static char last_peer[160];

static void collect(ahoy_conn conn, const void *data, size_t len, void *user) {
    CHECK_EQ(latch_count(&seen.opened), 1); /* on_open comes before every message */
    CHECK_EQ(conn.id, tally_conn(&seen).id);
    CHECK(pattern_matches(data, len, received));
    received += len;
    tally_message(conn, data, len, user);
}

static void note_peer(ahoy_conn conn, ahoy_status reason, void *user) {
    CHECK_OK(ahoy_conn_peer(conn, last_peer, sizeof last_peer));
    tally_close(conn, reason, user);
}

static void send_pattern(ahoy_conn conn, size_t offset) {
    char piece[PIECE_BYTES];
    for (size_t sent = 0; sent < TOTAL_BYTES; sent += sizeof piece) {
        pattern_fill(piece, sizeof piece, offset + sent);
        CHECK_OK(ahoy_send(conn, piece, sizeof piece));
    }
}

/* `host` stands in the URL instead of the listener's own, if it is not NULL. */
static void reaches(const char *listen, const char *host) {
    served = (tally)TALLY_INIT, seen = (tally)TALLY_INIT, received = 0;
    ahoy_server far = start(OPTIONS(.listen = listen, .workers = 2, .user = &served, .on_open = tally_open,
                                    .on_message = tally_echo, .on_close = tally_close));
    ahoy_server near = start(OPTIONS(.workers = 2, .user = &seen, .on_open = tally_open, .on_message = collect,
                                     .on_close = note_peer));
    char own[160], url[160], peer[160];
    CHECK_OK(ahoy_server_address(far, 0, own, sizeof own));
    snprintf(url, sizeof url, "%s", own);
    if (host) snprintf(url, sizeof url, "tcp://%s%s", host, strrchr(own, ':'));

    ahoy_conn conn = { 0 };
    CHECK_OK(ahoy_connect(near, url, NULL, &conn));
    CHECK(conn.id != 0);
    CHECK_EQ(ahoy_conn_server(conn).id, near.id);
    CHECK(ahoy_conn_user(conn) == &seen); /* the server's, where the options name none */
    send_pattern(conn, 0);
    latch_wait(&seen.bytes, TOTAL_BYTES);
    CHECK_EQ(tally_conn(&seen).id, conn.id);
    CHECK_OK(ahoy_conn_peer(conn, peer, sizeof peer));
    CHECK_TEXT(peer, strncmp(own, "unix:", 5) ? own : "unix:"); /* a Unix peer is not named */

    send_pattern(conn, TOTAL_BYTES);
    latch_wait(&seen.bytes, 2 * TOTAL_BYTES);
    ahoy_stats stats = stats_of(near);
    CHECK_EQ(stats.opened, 1);
    CHECK_EQ(stats.connecting, 0);
    CHECK_EQ(stats.connects_failed, 0);
    CHECK_EQ(stats.messages_out, 2 * PIECES);

    /* Either side ends it. */
    CHECK_OK(ahoy_conn_close(conn));
    latch_wait(&seen.closed, 1);
    CHECK_STATUS(seen.reason, AHOY_OK);
    CHECK_TEXT(last_peer, peer);
    latch_wait(&served.closed, 1);
    CHECK_STATUS(served.reason, AHOY_ERR_EOF);
    CHECK_OK(ahoy_connect(near, url, NULL, NULL)); /* the handle is not wanted */
    latch_wait(&served.opened, 2);
    latch_wait(&seen.opened, 2);
    CHECK_OK(ahoy_conn_close(tally_conn(&served)));
    latch_wait(&seen.closed, 2);
    CHECK_STATUS(seen.reason, AHOY_ERR_EOF);
    CHECK_EQ(latch_count(&seen.opened), 2);
    ahoy_server_free(near);
    ahoy_server_free(far);
}

int main(void) {
    holdings before = holdings_now();
    char url[96];
    reaches(LOOPBACK, NULL);
    reaches("tcp://[::1]:0", NULL);
    reaches(LOOPBACK, "localhost"); /* which may be an IPv6 address, too, where nobody listens */
    reaches(abstract_url(), NULL);
    snprintf(url, sizeof url, "unix:%s/socket", make_folder());
    reaches(url, NULL);
    remove_folder();

    /* The program's own loop connects as well. */
    seen = (tally)TALLY_INIT, served = (tally)TALLY_INIT, received = 0;
    ahoy_server far = start(OPTIONS(.listen = LOOPBACK, .workers = 1, .user = &served, .on_message = tally_echo));
    ahoy_server near = start(OPTIONS(.workers = AHOY_WORKERS_NONE, .user = &seen, .on_open = tally_open,
                                     .on_message = collect, .on_close = tally_close));
    ahoy_conn conn = { 0 };
    CHECK_OK(ahoy_server_address(far, 0, url, sizeof url));
    CHECK_OK(ahoy_connect(near, url, NULL, &conn));
    send_pattern(conn, 0);
    while (latch_count(&seen.bytes) < TOTAL_BYTES) CHECK_OK(ahoy_server_turn(near, 1000));
    ahoy_server_free(near);
    CHECK_STATUS(seen.reason, AHOY_ERR_STOPPED);
    ahoy_server_free(far);
    CHECK_HOLDINGS(before);
    return 0;
}
