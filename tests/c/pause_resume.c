/*
 * A paused connection gets no message and its peer is held back; after the resume everything is there. Paused
 * in a callback, it holds from the next message on.
 */
#include "support.h"

#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

static tally seen;
static size_t received;

static void on_message(ahoy_conn conn, const void *data, size_t len, void *user) {
    CHECK(pattern_matches(data, len, received));
    received += len;
    tally_message(conn, data, len, user);
}

static void pause_after_each(ahoy_conn conn, const void *data, size_t len, void *user) {
    CHECK_OK(ahoy_conn_pause(conn));
    CHECK_OK(ahoy_conn_pause(conn)); /* also when it is paused already */
    on_message(conn, data, len, user);
}

static void pause_at_open(ahoy_conn conn, void *user) {
    CHECK_OK(ahoy_conn_pause(conn));
    tally_open(conn, user);
}

static ahoy_server begin(ahoy_open_fn on_open, ahoy_message_fn on_message) {
    seen = (tally)TALLY_INIT;
    received = 0;
    return start(OPTIONS(.listen = abstract_url(), .workers = 1, .user = &seen, .on_open = on_open,
                         .message_bytes_max = 1000, .on_message = on_message,
                         .on_close = tally_close));
}

/* Another connection opens and closes on the same worker: what the worker had to do before is done. */
static void round_trip(ahoy_server server) {
    int pair[2];
    char end;
    ahoy_conn conn;
    stream_pair(pair);
    CHECK_OK(ahoy_server_adopt(server, pair[0], &conn));
    CHECK_OK(ahoy_conn_close(conn));
    CHECK_EQ(recv_until_eof(pair[1], &end, 1), 0);
    close(pair[1]);
}

static void held_back_at_open(void) {
    static char bytes[1000000];
    pattern_fill(bytes, sizeof bytes, 0);
    ahoy_server server = begin(pause_at_open, on_message);
    int fd = dial(server);
    latch_wait(&seen.opened, 1);
    ahoy_conn conn = tally_conn(&seen);

    /* The peer may send until the system's buffers are full, and no further. */
    size_t sent = 0;
    ssize_t taken;
    while ((taken = send(fd, bytes + sent, 1000, MSG_DONTWAIT)) > 0) sent += (size_t)taken;
    CHECK(errno == EAGAIN && sent > 0 && sent < sizeof bytes);
    round_trip(server);
    CHECK_EQ(latch_count(&seen.messages), 0);
    CHECK_EQ(stats_of(server).bytes_in, 0);

    CHECK_OK(ahoy_conn_resume(conn));
    CHECK_OK(ahoy_conn_resume(conn));
    latch_wait(&seen.bytes, (long)sent);
    send_all(fd, bytes + sent, sizeof bytes - sent);
    latch_wait(&seen.bytes, sizeof bytes);
    close(fd);
    ahoy_server_free(server);
}

/* One read brings many messages of 1000 bytes: the pause holds between two of them. */
static void one_message_at_a_time(void) {
    static char bytes[50000];
    pattern_fill(bytes, sizeof bytes, 0);
    ahoy_server server = begin(tally_open, pause_after_each);
    int fd = dial(server);
    latch_wait(&seen.opened, 1);
    ahoy_conn conn = tally_conn(&seen);
    send_all(fd, bytes, sizeof bytes);
    for (long messages = 1; latch_count(&seen.bytes) < (long)sizeof bytes; messages++) {
        latch_wait(&seen.messages, messages);
        if (messages == 1) round_trip(server);
        CHECK_EQ(latch_count(&seen.messages), messages);
        CHECK_OK(ahoy_conn_resume(conn));
    }
    close(fd);
    ahoy_server_free(server);
}

/* What the peer said before it left is not lost, nor is its leaving. */
static void the_peer_leaves_meanwhile(void) {
    char bytes[5000];
    pattern_fill(bytes, sizeof bytes, 0);
    ahoy_server server = begin(pause_at_open, on_message);
    int fd = dial(server);
    latch_wait(&seen.opened, 1);
    ahoy_conn conn = tally_conn(&seen);
    send_all(fd, bytes, sizeof bytes);
    close(fd);
    round_trip(server);
    CHECK_EQ(latch_count(&seen.messages), 0);
    CHECK_OK(ahoy_conn_resume(conn));
    latch_wait(&seen.bytes, sizeof bytes);
    WAIT_UNTIL(ahoy_conn_server(conn).id == 0);
    CHECK_STATUS(ahoy_conn_resume(conn), AHOY_ERR_STALE);
    CHECK_STATUS(ahoy_conn_pause(conn), AHOY_ERR_STALE);
    ahoy_server_free(server);
}

/* A paused connection can be sent to, be closed, and be stopped. */
static void the_rest_works_while_paused(void) {
    char answer[4];
    ahoy_server server = begin(pause_at_open, on_message);
    int fd = dial(server);
    latch_wait(&seen.opened, 1);
    CHECK_OK(ahoy_send(tally_conn(&seen), "push", 4));
    recv_exact(fd, answer, 4);
    CHECK_OK(ahoy_conn_close(tally_conn(&seen)));
    CHECK_EQ(recv_until_eof(fd, answer, 4), 0);
    latch_wait(&seen.closed, 1);
    CHECK_STATUS(seen.reason, AHOY_OK);
    close(fd);

    fd = dial(server);
    latch_wait(&seen.opened, 2);
    CHECK_OK(ahoy_server_stop(server, AHOY_DRAIN_DEFAULT));
    CHECK_OK(ahoy_server_wait(server));
    CHECK_STATUS(seen.reason, AHOY_ERR_STOPPED);
    close(fd);
    ahoy_server_free(server);
}

/* Unread bytes are no reason to keep the program, or the peer, waiting. */
static void closed_with_unread_bytes(void) {
    char end;
    ahoy_server server = begin(pause_at_open, on_message);
    int fd = dial(server);
    latch_wait(&seen.opened, 1);
    send_all(fd, "unread", 6);
    long begin_ms = now_ms();
    CHECK_OK(ahoy_conn_close(tally_conn(&seen)));
    CHECK_EQ(recv_until_eof(fd, &end, 1), 0); /* an end, not a reset */
    close(fd);
    latch_wait(&seen.closed, 1);
    CHECK_STATUS(seen.reason, AHOY_OK);
    if (!is_slow()) CHECK(now_ms() - begin_ms < 500);
    CHECK_EQ(latch_count(&seen.messages), 0);
    ahoy_server_free(server);
}

int main(void) {
    held_back_at_open();
    one_message_at_a_time();
    the_peer_leaves_meanwhile();
    the_rest_works_while_paused();
    closed_with_unread_bytes();
    return 0;
}
