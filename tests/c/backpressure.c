/*
 * The pattern that the header offers for a fast sender and a slow reader: pause at AHOY_ERR_AGAIN, resume in
 * on_writable. An echo of much more than all buffers hold passes through a small queue, whole.
 */
#include "support.h"

#include <sys/socket.h>
#include <unistd.h>

enum { QUEUE_BYTES = 64 * 1024, MESSAGE_BYTES = 16 * 1024 };

static tally seen = TALLY_INIT;
static latch pauses = LATCH_INIT;

/* The message that found no room. */
static char kept[MESSAGE_BYTES];
static size_t kept_bytes;

static void on_message(ahoy_conn conn, const void *data, size_t len, void *user) {
    CHECK_EQ(kept_bytes, 0); /* none comes while paused */
    ahoy_status status = ahoy_send(conn, data, len);
    if (status == AHOY_ERR_AGAIN) {
        memcpy(kept, data, len);
        kept_bytes = len;
        CHECK_OK(ahoy_conn_pause(conn));
        latch_add(&pauses, 1);
    } else {
        CHECK_OK(status);
    }
    tally_message(conn, data, len, user);
}

static void on_writable(ahoy_conn conn, void *user) {
    CHECK(kept_bytes > 0);
    CHECK_OK(ahoy_send(conn, kept, kept_bytes)); /* half of the queue is free */
    kept_bytes = 0;
    CHECK_OK(ahoy_conn_resume(conn));
    tally_writable(conn, user);
}

/* Sends and never looks whether anything comes back. */
static void *pour(void *arg) {
    int fd = *(int *)arg;
    static char bytes[100000];
    long total = rounds(400) * (long)sizeof bytes;
    for (long sent = 0; sent < total; sent += (long)sizeof bytes) {
        pattern_fill(bytes, sizeof bytes, (size_t)sent);
        send_all(fd, bytes, sizeof bytes);
    }
    CHECK(!shutdown(fd, SHUT_WR));
    return NULL;
}

int main(void) {
    ahoy_server server = start(OPTIONS(.listen = abstract_url(), .workers = 1, .user = &seen,
                                       .queue_bytes_max = QUEUE_BYTES,
                                       .message_bytes_max = MESSAGE_BYTES, .on_message = on_message,
                                       .on_writable = on_writable, .on_close = tally_close));
    pthread_t thread;
    int fd = dial(server);
    CHECK(!pthread_create(&thread, NULL, pour, &fd));
    latch_wait(&pauses, 1); /* the reader is slow: it has not begun */

    static char got[65536];
    size_t received = 0;
    ssize_t count;
    while ((count = recv(fd, got, sizeof got, 0)) > 0) {
        CHECK(pattern_matches(got, (size_t)count, received));
        received += (size_t)count;
        CHECK(stats_of(server).bytes_queued <= QUEUE_BYTES);
    }
    CHECK_EQ(count, 0);
    CHECK_EQ(received, rounds(400) * 100000);
    CHECK(!pthread_join(thread, NULL));
    latch_wait(&seen.closed, 1);
    CHECK_STATUS(seen.reason, AHOY_ERR_EOF);
    CHECK_EQ(latch_count(&pauses), latch_count(&seen.writable));
    close(fd);
    ahoy_server_free(server);
    return 0;
}
