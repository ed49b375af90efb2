/*
 * A bug inside the library in the middle of the messages that one read gave, and while a partial message is kept: it
 * costs the one connection. Its timers, topics and partial bytes are given back, and everybody else is served on.
 */
#include "hooks.h"
#include "wire.h"

#include <unistd.h>

static tally seen;
static latch freed;

static void on_timer(ahoy_timer timer, ahoy_conn conn, void *user) {
    (void)timer, (void)conn, (void)user;
}

static void on_open(ahoy_conn conn, void *user) {
    CHECK_OK(ahoy_conn_join(conn, "all"));
    CHECK_OK(ahoy_conn_timer_start(conn, 3600000, 0, on_timer, &freed, count_free, NULL));
    tally_open(conn, user);
}

static void on_message(ahoy_conn conn, const void *data, size_t len, void *user) {
    (void)user;
    CHECK_OK(ahoy_send(conn, data, len));
    latch_add(&seen.messages, 1);
}

static void play(const wire *wire, int32_t workers, int skip) {
    char bytes[1024], end;
    size_t len = 0;
    ahoy_framing_options particulars;
    ahoy_server_options options = OPTIONS(.listen = LOOPBACK, .workers = workers, .user = &seen,
                                          .on_open = on_open, .on_message = on_message, .on_close = tally_close);
    wire_options(wire, &options, &particulars);
    seen = (tally)TALLY_INIT;
    freed = (latch)LATCH_INIT;
    ahoy_server server = start(options);
    int other = dial(server), victim = dial(server);
    latch_wait(&seen.opened, 2);
    wire_send(wire, victim, "before", 6);
    wire_expect(wire, victim, "before", 6);

    /* Five messages and a half in one write. */
    for (int i = 0; i < 5; i++) len += wire_encode(wire, "message", 7, bytes + len);
    len += wire_encode(wire, "message", 7, bytes + len) - 5;
    ahoy_test_panic(skip);
    send_all(victim, bytes, len);
    ssize_t got = recv_until_eof(victim, &end, 1);
    CHECK(got <= 5 * (7 + WIRE_FRAME_MAX));
    latch_wait(&seen.closed, 1);
    CHECK_STATUS(seen.reason, AHOY_ERR_PANIC);
    CHECK(latch_count(&seen.messages) >= 1 && latch_count(&seen.messages) <= 1 + skip);
    WAIT_UNTIL(stats_of(server).panics == 1);
    WAIT_UNTIL(stats_of(server).timers == 1);
    CHECK_EQ(latch_count(&freed), 1);
    CHECK_EQ(stats_of(server).bytes_partial, 0);
    close(victim);

    wire_send(wire, other, "after", 5);
    wire_expect(wire, other, "after", 5);
    CHECK_OK(ahoy_publish(server, "all", "published", 9));
    wire_expect(wire, other, "published", 9);
    CHECK_EQ(stats_of(server).connections, 1);
    close(other);
    latch_wait(&seen.closed, 2);
    ahoy_server_free(server);
    CHECK_EQ(latch_count(&freed), 2);
}

/* The beginning of a message is kept, and counted; the panic comes with its end. */
static void while_kept(const wire *wire) {
    char bytes[1024], letters[200], end;
    ahoy_framing_options particulars;
    ahoy_server_options options = OPTIONS(.listen = LOOPBACK, .workers = 1, .user = &seen, .on_open = on_open,
                                          .on_message = on_message, .on_close = tally_close,
                                          .queue_total_bytes_max = 4096, .queue_bytes_max = 2048);
    wire_options(wire, &options, &particulars);
    seen = (tally)TALLY_INIT;
    freed = (latch)LATCH_INIT;
    letters_fill(letters, sizeof letters, 0);
    size_t len = wire_encode(wire, letters, sizeof letters, bytes);
    ahoy_server server = start(options);
    /* More often than the total would allow if it were not given back. */
    for (long round = 1; round <= 50; round++) {
        int victim = dial(server);
        send_all(victim, bytes, len / 2);
        WAIT_UNTIL(stats_of(server).bytes_partial > 0);
        ahoy_test_panic(0);
        send_all(victim, bytes + len / 2, len - len / 2);
        CHECK(recv_until_eof(victim, &end, 1) <= 0);
        latch_wait(&seen.closed, round);
        CHECK_STATUS(seen.reason, AHOY_ERR_PANIC);
        WAIT_UNTIL(stats_of(server).bytes_partial == 0);
        close(victim);
    }
    ahoy_server_free(server);
}

int main(void) {
    for (int i = 0; i < WIRES; i++) {
        for (int skip = 0; skip < 5; skip++) play(&wires[i], 1 + skip % 2, skip);
        while_kept(&wires[i]);
    }
    return 0;
}
