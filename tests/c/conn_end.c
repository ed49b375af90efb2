/*
 * ahoy_conn_end ends our side alone: what is queued goes out, then the peer reads the end; its messages still come,
 * until it ends as well (AHOY_ERR_EOF) or the program closes. Sends answer AHOY_ERR_CLOSED from then on.
 */
#include "support.h"

#include <sys/socket.h>
#include <unistd.h>

enum { ANSWER_BYTES = 4 << 20 };

static tally seen;
static char answer[ANSWER_BYTES], got[ANSWER_BYTES + 1];

static void answer_and_end(ahoy_conn conn) {
    CHECK_OK(ahoy_send(conn, answer, sizeof answer));
    CHECK_OK(ahoy_conn_end(conn));
    CHECK_STATUS(ahoy_send(conn, "x", 1), AHOY_ERR_CLOSED);
    CHECK_STATUS(ahoy_send_parts(conn, &(ahoy_part){ "x", 1 }, 1), AHOY_ERR_CLOSED);
    CHECK_STATUS(ahoy_send_owned(conn, "x", 1, NULL, NULL), AHOY_ERR_CLOSED);
    CHECK_STATUS(ahoy_conn_greet(conn), AHOY_ERR_CLOSED);
    CHECK_OK(ahoy_conn_end(conn)); /* also when it has ended */
}

static void on_message(ahoy_conn conn, const void *data, size_t len, void *user) {
    if (*(const char *)data == '!') answer_and_end(conn);
    tally_message(conn, data, len, user);
}

static void on_close(ahoy_conn conn, ahoy_status reason, void *user) {
    CHECK_STATUS(ahoy_conn_end(conn), AHOY_ERR_CLOSED);
    tally_close(conn, reason, user);
}

static ahoy_server begin(ahoy_end_fn on_end) {
    seen = (tally)TALLY_INIT;
    return start(OPTIONS(.listen = LOOPBACK, .workers = 2, .user = &seen, .message_bytes_max = ANSWER_BYTES,
                         .queue_bytes_max = ANSWER_BYTES, .on_open = tally_open, .on_message = on_message,
                         .on_end = on_end, .on_close = on_close));
}

static void *end_it(void *unused) {
    (void)unused;
    answer_and_end(tally_conn(&seen));
    return NULL;
}

static int begin_and_end(ahoy_server server, bool in_a_callback) {
    int fd = dial(server);
    latch_wait(&seen.opened, 1);
    if (in_a_callback) {
        send_all(fd, "!", 1);
        latch_wait(&seen.messages, 1);
    } else {
        pthread_t thread;
        CHECK(!pthread_create(&thread, NULL, end_it, NULL) && !pthread_join(thread, NULL));
    }
    return fd;
}

/* The peer speaks before and after it has read the answer and its end. */
static void until_the_peer_ends(bool in_a_callback, ahoy_end_fn on_end) {
    ahoy_server server = begin(on_end);
    int fd = begin_and_end(server, in_a_callback);
    long bytes = in_a_callback;
    send_all(fd, "before", 6);
    latch_wait(&seen.bytes, bytes += 6);
    CHECK_EQ(recv_until_eof(fd, got, sizeof got), ANSWER_BYTES);
    CHECK(pattern_matches(got, ANSWER_BYTES, 0));
    for (int i = 0; i < 10; i++) {
        send_all(fd, "after", 5);
        latch_wait(&seen.bytes, bytes += 5);
    }
    CHECK_EQ(latch_count(&seen.closed), 0);
    CHECK(!shutdown(fd, SHUT_WR));
    latch_wait(&seen.closed, 1);
    CHECK_STATUS(seen.reason, AHOY_ERR_EOF);
    CHECK_EQ(latch_count(&seen.closed), 1);
    CHECK_EQ(stats_of(server).bytes_cut, 0);
    close(fd);
    WAIT_UNTIL(ahoy_conn_end(tally_conn(&seen)) == AHOY_ERR_STALE);
    ahoy_server_free(server);
}

static void until_the_program_closes(bool in_a_callback) {
    ahoy_server server = begin(NULL);
    int fd = begin_and_end(server, in_a_callback);
    CHECK_EQ(recv_until_eof(fd, got, sizeof got), ANSWER_BYTES);
    CHECK_OK(ahoy_conn_close(tally_conn(&seen)));
    latch_wait(&seen.closed, 1);
    CHECK_STATUS(seen.reason, AHOY_OK);
    close(fd);
    ahoy_server_free(server);
}

/* The peer was first: with on_end the connection waited for us. */
static void after_the_peer(void) {
    ahoy_server server = begin(tally_end);
    int fd = dial(server);
    CHECK(!shutdown(fd, SHUT_WR));
    latch_wait(&seen.ended, 1);
    CHECK_EQ(latch_count(&seen.closed), 0);
    answer_and_end(tally_conn(&seen));
    CHECK_EQ(recv_until_eof(fd, got, sizeof got), ANSWER_BYTES);
    latch_wait(&seen.closed, 1);
    CHECK_STATUS(seen.reason, AHOY_ERR_EOF);
    close(fd);
    ahoy_server_free(server);
}

/* A close is more than an end. */
static void after_a_close(void) {
    ahoy_server server = begin(NULL);
    int fd = dial(server);
    latch_wait(&seen.opened, 1);
    CHECK_OK(ahoy_conn_close(tally_conn(&seen)));
    ahoy_status status = ahoy_conn_end(tally_conn(&seen));
    CHECK(status == AHOY_ERR_CLOSED || status == AHOY_ERR_STALE);
    CHECK_EQ(recv_until_eof(fd, got, sizeof got), 0);
    close(fd);
    latch_wait(&seen.closed, 1);
    CHECK_STATUS(ahoy_conn_end((ahoy_conn){ 0 }), AHOY_ERR_STALE);

    /* A stop finds an ended connection as it finds others. */
    fd = dial(server);
    latch_wait(&seen.opened, 2);
    CHECK_OK(ahoy_conn_end(tally_conn(&seen)));
    CHECK_EQ(recv_until_eof(fd, got, sizeof got), 0);
    CHECK_OK(ahoy_server_stop(server, AHOY_DRAIN_DEFAULT));
    CHECK_OK(ahoy_server_wait(server));
    CHECK_STATUS(seen.reason, AHOY_ERR_STOPPED);
    close(fd);
    ahoy_server_free(server);
}

int main(void) {
    pattern_fill(answer, sizeof answer, 0);
    for (int in_a_callback = 0; in_a_callback <= 1; in_a_callback++) {
        until_the_peer_ends(in_a_callback, NULL);
        until_the_peer_ends(in_a_callback, tally_end);
        until_the_program_closes(in_a_callback);
    }
    after_the_peer();
    after_a_close();
    return 0;
}
