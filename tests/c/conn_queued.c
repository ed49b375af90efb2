/*
 * ahoy_conn_queued tells the bytes that wait, frames included: exactly inside a callback, where nothing leaves; 0
 * when all is handed over, for a stale handle, and for none.
 */
#include "wire.h"

#include <unistd.h>

static tally seen;
static const wire *spoken;
static size_t last_queued;

static void on_message(ahoy_conn conn, const void *data, size_t len, void *user) {
    char frame[WIRE_FRAME_MAX], text[100];
    size_t frame_bytes = wire_encode(spoken, NULL, 0, frame), expected = 0;
    letters_fill(text, sizeof text, 0);
    CHECK_EQ(ahoy_conn_queued(conn), 0);
    for (size_t i = 0; i < sizeof text; i++) {
        CHECK_OK(ahoy_send(conn, text, i));
        expected += i ? i + frame_bytes : spoken == &wire_raw ? 0 : frame_bytes;
        CHECK_EQ(ahoy_conn_queued(conn), expected);
        const ahoy_part parts[] = { { text, i }, { text, 1 } };
        CHECK_OK(ahoy_send_parts(conn, parts, 2));
        expected += i + 1 + frame_bytes;
        CHECK_EQ(ahoy_conn_queued(conn), expected);
    }
    CHECK_OK(ahoy_send_owned(conn, text, 0, NULL, NULL));
    /* An owned one counts 64 bytes more, as it does in the limits. */
    CHECK(ahoy_conn_queued(conn) >= expected && ahoy_conn_queued(conn) <= expected + 64 + frame_bytes);
    CHECK(stats_of(ahoy_conn_server(conn)).bytes_queued <= ahoy_conn_queued(conn));
    last_queued = expected + (spoken == &wire_raw ? 0 : frame_bytes);
    tally_message(conn, data, len, user);
}

static void exact(const wire *wire) {
    ahoy_framing_options particulars;
    ahoy_server_options options = OPTIONS(.listen = LOOPBACK, .workers = 1, .user = &seen,
                                          .on_open = tally_open, .on_message = on_message,
                                          .on_close = tally_close);
    wire_options(wire, &options, &particulars);
    spoken = wire;
    seen = (tally)TALLY_INIT;
    ahoy_server server = start(options);
    int fd = dial(server);
    latch_wait(&seen.opened, 1);
    ahoy_conn conn = tally_conn(&seen);
    CHECK_EQ(ahoy_conn_queued(conn), 0);
    wire_send(wire, fd, "go", 2);
    latch_wait(&seen.messages, 1);
    char *got = malloc(last_queued);
    recv_exact(fd, got, last_queued); /* not a byte less than it said */
    free(got);
    WAIT_UNTIL(ahoy_conn_queued(conn) == 0);
    CHECK_EQ(stats_of(server).bytes_out, last_queued);
    close(fd);
    latch_wait(&seen.closed, 1);
    WAIT_UNTIL(ahoy_conn_server(conn).id == 0);
    CHECK_EQ(ahoy_conn_queued(conn), 0);
    ahoy_server_free(server);
}

/* From another thread, of a peer that does not read. */
static void grows_and_falls(void) {
    enum { PIECE = 10000 };
    static char bytes[1 << 20];
    seen = (tally)TALLY_INIT;
    ahoy_server server = start(OPTIONS(.listen = abstract_url(), .workers = 1, .user = &seen,
                                       .on_open = tally_open, .on_message = tally_message));
    int fd = dial(server);
    latch_wait(&seen.opened, 1);
    ahoy_conn conn = tally_conn(&seen);
    size_t sent = 0;
    while (ahoy_conn_queued(conn) < 500000) {
        CHECK_OK(ahoy_send(conn, bytes, PIECE));
        sent += PIECE;
        CHECK(ahoy_conn_queued(conn) <= sent + PIECE); /* one on its way may be seen twice */
    }
    recv_exact(fd, bytes, 200000);
    WAIT_UNTIL(ahoy_conn_queued(conn) < 500000 - 100000);
    for (size_t got = 200000; got < sent; got += PIECE) recv_exact(fd, bytes, PIECE);
    WAIT_UNTIL(ahoy_conn_queued(conn) == 0);
    close(fd);
    ahoy_server_free(server);
    CHECK_EQ(ahoy_conn_queued(conn), 0);
    CHECK_EQ(ahoy_conn_queued((ahoy_conn){ 0 }), 0);
    CHECK_EQ(ahoy_conn_queued((ahoy_conn){ UINT64_MAX }), 0);
}

int main(void) {
    for (int i = 0; i < WIRES; i++) exact(&wires[i]);
    exact(&wire_raw);
    grows_and_falls();
    return 0;
}
