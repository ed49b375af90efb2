/*
 * A client that ends its side and goes on reading, as `nc -N` does, gets everything. With on_end the
 * connection stays open until the program closes it; without it, it closes when all is out.
 */
#include "support.h"

#include <sys/socket.h>
#include <unistd.h>

enum { ANSWER_BYTES = 8 * 1024 * 1024 };

static tally seen;
static char answer[ANSWER_BYTES];

static void send_answer(ahoy_conn conn, const void *data, size_t len, void *user) {
    CHECK_OK(ahoy_send(conn, answer, sizeof answer));
    tally_message(conn, data, len, user);
}

static ahoy_server begin(ahoy_end_fn on_end, ahoy_message_fn on_message) {
    seen = (tally)TALLY_INIT;
    return start(OPTIONS(.listen = LOOPBACK, .workers = 2, .user = &seen, .on_open = tally_open,
                         .on_message = on_message, .on_end = on_end, .on_close = tally_close,
                         .message_bytes_max = ANSWER_BYTES, .queue_bytes_max = ANSWER_BYTES));
}

static int ask_and_end(ahoy_server server) {
    int fd = dial(server);
    send_all(fd, "ask", 3);
    CHECK(shutdown(fd, SHUT_WR) == 0);
    return fd;
}

static void without_on_end(void) {
    static char got[ANSWER_BYTES];
    ahoy_server server = begin(NULL, send_answer);
    int fd = ask_and_end(server);
    CHECK_EQ(recv_until_eof(fd, got, sizeof got), ANSWER_BYTES);
    CHECK(pattern_matches(got, sizeof got, 0));
    latch_wait(&seen.closed, 1);
    CHECK_STATUS(seen.reason, AHOY_ERR_EOF);
    close(fd);
    ahoy_server_free(server);
}

static void with_on_end(void) {
    static char got[ANSWER_BYTES];
    ahoy_server server = begin(tally_end, tally_message);
    int fd = ask_and_end(server);
    latch_wait(&seen.ended, 1);
    CHECK_EQ(latch_count(&seen.messages), 1);

    /* The other direction is as good as before. */
    CHECK_OK(ahoy_send(tally_conn(&seen), answer, sizeof answer));
    recv_exact(fd, got, sizeof got);
    CHECK(pattern_matches(got, sizeof got, 0));
    CHECK_OK(ahoy_send(tally_conn(&seen), "last", 4));
    recv_exact(fd, got, 4);
    CHECK_EQ(latch_count(&seen.closed), 0);

    CHECK_OK(ahoy_conn_close(tally_conn(&seen)));
    CHECK_EQ(recv_until_eof(fd, got, sizeof got), 0);
    latch_wait(&seen.closed, 1);
    CHECK_STATUS(seen.reason, AHOY_OK);
    CHECK_EQ(latch_count(&seen.ended), 1);
    close(fd);
    ahoy_server_free(server);
}

/* The end comes together with the last bytes, or alone: never before them. */
static void end_without_a_word(void) {
    ahoy_server server = begin(tally_end, tally_message);
    int fd = dial(server);
    CHECK(shutdown(fd, SHUT_WR) == 0);
    latch_wait(&seen.ended, 1);
    CHECK_EQ(latch_count(&seen.messages), 0);
    close_reset(fd); /* a half-open connection that breaks closes all the same, and once */
    ahoy_status status = ahoy_conn_close(tally_conn(&seen));
    CHECK(status == AHOY_OK || status == AHOY_ERR_STALE);
    latch_wait(&seen.closed, 1);
    ahoy_server_free(server);
    CHECK_EQ(latch_count(&seen.closed), 1);
}

int main(void) {
    pattern_fill(answer, sizeof answer, 0);
    without_on_end();
    with_on_end();
    end_without_a_word();
    return 0;
}
