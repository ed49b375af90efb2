/*
 * The counts of conversations are exact: messages in and out, refused, published, missed, bytes of partial messages,
 * timers; frames count as bytes.
 */
#include "wire.h"

#include <unistd.h>

enum { QUEUE_BYTES = 10000, PIECE_BYTES = 996 };

static tally seen = TALLY_INIT;

static void on_timer(ahoy_timer timer, ahoy_conn conn, void *user) {
    (void)timer, (void)conn, (void)user;
}

/* "s": sends of each kind; "f": fills the queue and publishes over it. */
static void on_message(ahoy_conn conn, const void *data, size_t len, void *user) {
    static const char piece[PIECE_BYTES];
    ahoy_server server = ahoy_conn_server(conn);
    if (len == 1 && *(const char *)data == 's') {
        CHECK_OK(ahoy_send(conn, "abc", 3));
        CHECK_OK(ahoy_send(conn, NULL, 0));
        CHECK_OK(ahoy_send_owned(conn, "defg", 4, NULL, NULL));
        CHECK_OK(ahoy_send_parts(conn, (ahoy_part[]){ { "h", 1 }, { "i", 1 } }, 2));
        CHECK_OK(ahoy_conn_greet(conn));
        CHECK_STATUS(ahoy_send(conn, piece, SIZE_MAX), AHOY_ERR_TOO_LONG);
        CHECK_STATUS(ahoy_send(conn, NULL, 1), AHOY_ERR_NULL);
    } else if (len == 1 && *(const char *)data == 'f') {
        for (int i = 0; i < QUEUE_BYTES / 1000; i++) CHECK_OK(ahoy_send(conn, piece, PIECE_BYTES));
        for (int i = 0; i < 3; i++) CHECK_STATUS(ahoy_send(conn, piece, PIECE_BYTES), AHOY_ERR_AGAIN);
        CHECK_EQ(stats_of(server).bytes_queued, QUEUE_BYTES);
    }
    latch_add(&seen.messages, 1);
    (void)user;
}

int main(void) {
    enum { KINDS = 5, KINDS_BYTES = 3 + 0 + 4 + 2 + 5 + KINDS * 4 };
    static char got[QUEUE_BYTES];
    ahoy_server server = start(OPTIONS(.listen = LOOPBACK, .workers = 1, .user = &seen, .greeting = "hello",
                                       .framing = AHOY_FRAMING_LENGTH, .queue_bytes_max = QUEUE_BYTES,
                                       .on_open = tally_open, .on_message = on_message,
                                       .on_close = tally_close));
    ahoy_stats stats = stats_of(server);
    CHECK_EQ(stats.messages_out + stats.messages_refused + stats.published + stats.published_dropped +
             stats.datagrams_dropped + stats.connecting + stats.connects_failed + stats.bytes_partial +
             stats.timers, 0);
    int fd = dial(server);
    latch_wait(&seen.opened, 1);
    ahoy_conn conn = tally_conn(&seen);

    wire_send(&wires[4], fd, "s", 1);
    wire_send(&wires[4], fd, NULL, 0);
    recv_exact(fd, got, KINDS_BYTES);
    latch_wait(&seen.messages, 2);
    WAIT_UNTIL(stats_of(server).bytes_out == KINDS_BYTES);
    WAIT_UNTIL(stats_of(server).messages_in == 2); /* counted when the callback has returned */
    stats = stats_of(server);
    CHECK_EQ(stats.bytes_in, 9);
    CHECK_EQ(stats.messages_out, KINDS);
    CHECK_EQ(stats.messages_refused, 0);

    wire_send(&wires[4], fd, "f", 1);
    latch_wait(&seen.messages, 3);
    recv_exact(fd, got, QUEUE_BYTES);
    WAIT_UNTIL(stats_of(server).bytes_queued == 0);
    CHECK_EQ(stats_of(server).messages_out, KINDS + QUEUE_BYTES / 1000);
    CHECK_EQ(stats_of(server).messages_refused, 3);

    /* Topics: nobody there, one member, and one subscriber, who is no connection. */
    CHECK_OK(ahoy_publish(server, "topic", "x", 1));
    CHECK_OK(ahoy_conn_join(conn, "topic"));
    CHECK_OK(ahoy_publish(server, "topic", "xyz", 3));
    wire_expect(&wires[4], fd, "xyz", 3);
    WAIT_UNTIL(stats_of(server).bytes_queued == 0);
    stats = stats_of(server);
    CHECK_EQ(stats.published, 2);
    CHECK_EQ(stats.published_dropped, 0);
    CHECK_EQ(stats.messages_out, KINDS + QUEUE_BYTES / 1000 + 1);
    CHECK_EQ(stats.bytes_out, KINDS_BYTES + QUEUE_BYTES + 7);

    /* What is kept of a message that is not complete. */
    send_all(fd, "\0\0\0\x0a" "12345", 9);
    WAIT_UNTIL(stats_of(server).bytes_in == 14 + 9);
    WAIT_UNTIL(stats_of(server).bytes_partial > 0);
    CHECK(stats_of(server).bytes_partial >= 5 && stats_of(server).bytes_partial <= 100); /* the room it takes */
    send_all(fd, "67890", 5);
    latch_wait(&seen.messages, 4);
    WAIT_UNTIL(stats_of(server).bytes_partial == 0);
    send_all(fd, "\0", 1);
    WAIT_UNTIL(stats_of(server).bytes_partial > 0);

    ahoy_timer timers[10];
    for (int i = 0; i < 10; i++) {
        if (i % 2) CHECK_OK(ahoy_timer_start(server, 3600000, 0, on_timer, NULL, NULL, &timers[i]));
        else CHECK_OK(ahoy_conn_timer_start(conn, 3600000, 0, on_timer, NULL, NULL, &timers[i]));
    }
    WAIT_UNTIL(stats_of(server).timers == 10);
    CHECK_OK(ahoy_timer_cancel(timers[0]));
    CHECK_OK(ahoy_timer_cancel(timers[1]));
    WAIT_UNTIL(stats_of(server).timers == 8);
    close(fd);
    latch_wait(&seen.closed, 1);
    WAIT_UNTIL(stats_of(server).timers == 4);
    WAIT_UNTIL(stats_of(server).bytes_partial == 0);

    uint64_t turns = stats_of(server).turns;
    CHECK(turns > 0);
    round_trip(server);
    WAIT_UNTIL(stats_of(server).turns > turns);
    CHECK_OK(ahoy_server_stop(server, 0));
    CHECK_OK(ahoy_server_wait(server));
    CHECK_EQ(stats_of(server).timers, 0);
    CHECK_EQ(stats_of(server).messages_in, 4);
    ahoy_server_free(server);
    return 0;
}
