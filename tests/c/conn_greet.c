/* ahoy_conn_greet sends the server's greeting as ahoy_send would: from callbacks and other threads. */
#include "support.h"

#include <unistd.h>

static tally seen = TALLY_INIT;

enum { QUEUE_BYTES = 4096 };

static void on_message(ahoy_conn conn, const void *data, size_t len, void *user) {
    if (latch_count(&seen.messages) == 0) {
        CHECK_OK(ahoy_send(conn, "<", 1));
        CHECK_OK(ahoy_conn_greet(conn));
        CHECK_OK(ahoy_send(conn, ">", 1));
    } else {
        /* It obeys the same limits. Nothing leaves inside a callback, so the queue fills. */
        for (int i = 0; i < QUEUE_BYTES / 3; i++) CHECK_OK(ahoy_conn_greet(conn));
        CHECK_STATUS(ahoy_conn_greet(conn), AHOY_ERR_AGAIN);
    }
    tally_message(conn, data, len, user);
}

static void on_close(ahoy_conn conn, ahoy_status reason, void *user) {
    CHECK_STATUS(ahoy_conn_greet(conn), AHOY_ERR_CLOSED);
    tally_close(conn, reason, user);
}

int main(void) {
    ahoy_server server = start(OPTIONS(.listen = LOOPBACK, .workers = 1, .user = &seen,
                                       .greeting = "a\0b", .greeting_bytes = 3, .on_open = tally_open,
                                       .on_message = on_message, .on_close = on_close,
                                       .queue_bytes_max = QUEUE_BYTES));
    char answer[16];
    int fd = dial(server);
    send_all(fd, "hi", 2);
    recv_exact(fd, answer, 5);
    CHECK(memcmp(answer, "<a\0b>", 5) == 0);

    ahoy_conn conn = tally_conn(&seen);
    CHECK_OK(ahoy_conn_greet(conn));
    recv_exact(fd, answer, 3);
    CHECK(memcmp(answer, "a\0b", 3) == 0);

    char many[QUEUE_BYTES / 3 * 3];
    send_all(fd, "hi", 2);
    recv_exact(fd, many, sizeof many);
    CHECK(memcmp(many + sizeof many - 3, "a\0b", 3) == 0);

    CHECK_OK(ahoy_conn_close(conn));
    ahoy_status status = ahoy_conn_greet(conn);
    CHECK(status == AHOY_ERR_CLOSED || status == AHOY_ERR_STALE);
    close(fd);
    latch_wait(&seen.closed, 1);
    ahoy_server_free(server);
    return 0;
}
