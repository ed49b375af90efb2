/*
 * A worker that is stuck in a callback cannot make memory grow: what other threads ask of it is answered
 * with AHOY_ERR_AGAIN at some point. A close and a stop are never refused, and take effect.
 */
#include "support.h"

#include <unistd.h>

enum { CALLS_MAX = 3000000 };

static tally seen = TALLY_INIT;
static latch stuck = LATCH_INIT, go_on = LATCH_INIT;

static void on_message(ahoy_conn conn, const void *data, size_t len, void *user) {
    if (*(const char *)data == '!') {
        latch_add(&stuck, 1);
        latch_wait(&go_on, 1);
    }
    tally_message(conn, data, len, user);
}

/* Calls until it is refused: how often it was not. */
static long until_again(ahoy_status (*call)(ahoy_conn), ahoy_conn conn) {
    for (long count = 0; count < CALLS_MAX; count++) {
        ahoy_status status = call(conn);
        if (status == AHOY_ERR_AGAIN) return count;
        CHECK_OK(status);
    }
    return CALLS_MAX;
}

static ahoy_status send_byte(ahoy_conn conn) {
    return ahoy_send(conn, "x", 1);
}

static ahoy_status set_user(ahoy_conn conn) {
    return ahoy_conn_set_user(conn, &seen, NULL);
}

int main(void) {
    ahoy_server server = start(OPTIONS(.listen = LOOPBACK, .workers = 1, .user = &seen,
                                       .queue_bytes_max = 1u << 30, .queue_total_bytes_max = 1u << 30,
                                       .on_open = tally_open, .on_message = on_message,
                                       .on_writable = tally_writable, .on_close = tally_close,
                                       .on_free = tally_free));
    int sticky = dial(server);
    latch_wait(&seen.opened, 1);
    int fds[2];
    ahoy_conn conns[2];
    for (int i = 0; i < 2; i++) {
        fds[i] = dial(server);
        latch_wait(&seen.opened, 2 + i);
        conns[i] = tally_conn(&seen);
    }
    send_all(sticky, "!", 1);
    latch_wait(&stuck, 1);

    long sent = until_again(send_byte, conns[0]);
    printf("%ld sends were queued\n", sent);
    CHECK(sent > 0 && sent < CALLS_MAX);
    CHECK(until_again(ahoy_conn_pause, conns[0]) < CALLS_MAX);
    CHECK(until_again(ahoy_conn_resume, conns[0]) < CALLS_MAX);
    CHECK(until_again(set_user, conns[0]) < CALLS_MAX);
    CHECK_OK(ahoy_conn_close(conns[1])); /* never refused */
    CHECK_OK(ahoy_conn_close(conns[1]));
    CHECK_EQ(latch_count(&seen.closed), 0);

    /* It goes on: all that was accepted arrives, and whoever was refused is told. */
    latch_add(&go_on, 1);
    char *got = malloc((size_t)sent);
    recv_exact(fds[0], got, (size_t)sent);
    free(got);
    latch_wait(&seen.closed, 1);
    CHECK_EQ(recv_until_eof(fds[1], (char[1]){ 0 }, 1), 0);
    latch_wait(&seen.writable, 1);
    CHECK_OK(send_byte(conns[0]));

    /* The same again, and a stop. */
    latch_add(&go_on, -1);
    send_all(sticky, "!", 1);
    latch_wait(&stuck, 2);
    sent = 1 + until_again(send_byte, conns[0]);
    CHECK_OK(ahoy_server_stop(server, AHOY_DRAIN_DEFAULT));
    latch_add(&go_on, 1);
    got = malloc((size_t)sent);
    CHECK_EQ(recv_until_eof(fds[0], got, (size_t)sent), sent);
    free(got);
    CHECK_OK(ahoy_server_wait(server));
    CHECK_EQ(latch_count(&seen.closed), 3);
    CHECK_EQ(latch_count(&seen.freed), 1);
    ahoy_server_free(server);
    close(sticky), close(fds[0]), close(fds[1]);
    return 0;
}
