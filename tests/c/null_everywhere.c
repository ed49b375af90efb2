/* NULL for every pointer parameter of every function: an error where it must not be, never a crash. */
#include "support.h"

#include <sys/socket.h>
#include <unistd.h>

static void null_where_a_pointer_is_needed(ahoy_server server, ahoy_conn conn) {
    ahoy_server_options options = OPTIONS(.listen = NULL);
    ahoy_server none = { 77 };

    CHECK_STATUS(ahoy_server_start(NULL, &none), AHOY_ERR_NULL);
    CHECK_STATUS(ahoy_server_start(&options, NULL), AHOY_ERR_NULL);
    CHECK_STATUS(ahoy_server_start(NULL, NULL), AHOY_ERR_NULL);
    CHECK_EQ(none.id, 77); /* written on success only */
    CHECK_STATUS(ahoy_server_address(server, 0, NULL, 128), AHOY_ERR_NULL);
    CHECK_STATUS(ahoy_server_address(server, 0, NULL, 0), AHOY_ERR_NULL);
    CHECK_STATUS(ahoy_server_stats(server, NULL), AHOY_ERR_NULL);
    CHECK_STATUS(ahoy_conn_peer(conn, NULL, 64), AHOY_ERR_NULL);
    CHECK_STATUS(ahoy_conn_peer(conn, NULL, 0), AHOY_ERR_NULL);

    ahoy_server loop = start(OPTIONS(.workers = AHOY_WORKERS_NONE));
    CHECK_STATUS(ahoy_server_fd(loop, NULL), AHOY_ERR_NULL);
    ahoy_server_free(loop);
}

static void null_with_a_length(ahoy_conn conn) {
    latch freed = LATCH_INIT;
    ahoy_server server = { 77 };
    int pair[2];
    stream_pair(pair);

    CHECK_STATUS(ahoy_send(conn, NULL, 1), AHOY_ERR_NULL);
    CHECK_STATUS(ahoy_send(conn, NULL, SIZE_MAX), AHOY_ERR_NULL);
    CHECK_STATUS(ahoy_send_owned(conn, NULL, 1, count_free, &freed), AHOY_ERR_NULL);
    CHECK_EQ(latch_count(&freed), 0);
    CHECK_STATUS(ahoy_greet_fd(pair[0], NULL, NULL, 1, NULL), AHOY_ERR_NULL);
    CHECK_STATUS(ahoy_greet_once(LOOPBACK, NULL, NULL, 1, NULL), AHOY_ERR_NULL);

    ahoy_server_options options = OPTIONS(.greeting = NULL, .greeting_bytes = 5);
    CHECK_STATUS(ahoy_server_start(&options, &server), AHOY_ERR_NULL);
    CHECK_EQ(server.id, 77);
    close(pair[0]), close(pair[1]);
}

static void null_where_it_means_none(ahoy_server server, ahoy_conn conn, int fd) {
    int pair[2];
    char answer[17];

    CHECK_OK(ahoy_send(conn, NULL, 0));
    CHECK_OK(ahoy_send_owned(conn, "static", 6, NULL, NULL)); /* nothing to free */
    recv_exact(fd, answer, 6);
    CHECK_OK(ahoy_conn_set_user(conn, NULL, NULL));
    WAIT_UNTIL(ahoy_conn_user(conn) == NULL);
    CHECK_OK(ahoy_log_set(AHOY_LOG_TRACE, NULL, NULL));

    stream_pair(pair);
    CHECK_OK(ahoy_server_adopt(server, pair[0], NULL)); /* the handle is not wanted */
    close(pair[1]);

    stream_pair(pair);
    send_all(pair[1], "hi", 2);
    CHECK_OK(ahoy_greet_fd(pair[0], NULL, NULL, 0, NULL));
    recv_exact(pair[1], answer, sizeof answer);
    CHECK(memcmp(answer, "Hello from server", sizeof answer) == 0);
    close(pair[0]), close(pair[1]);
}

/* The prefix of ahoy_perror may be NULL; the line goes to the standard error. */
static void null_prefix(void) {
    int lines[2], saved = dup(STDERR_FILENO);
    char line[256] = "";
    CHECK(pipe(lines) == 0 && saved >= 0);
    CHECK_STATUS(ahoy_server_start(NULL, NULL), AHOY_ERR_NULL);
    dup2(lines[1], STDERR_FILENO);
    ahoy_perror(NULL);
    dup2(saved, STDERR_FILENO);
    CHECK(read(lines[0], line, sizeof line - 1) > 0);
    char expected[256];
    snprintf(expected, sizeof expected, "%s\n", ahoy_last_error());
    CHECK_TEXT(line, expected);
    close(lines[0]), close(lines[1]), close(saved);
}

int main(void) {
    tally seen = TALLY_INIT;
    /* on_open records the connection; the other callbacks are NULL, as they may be. */
    ahoy_server server = start(OPTIONS(.listen = LOOPBACK, .on_message = tally_message,
                                       .on_open = tally_open, .user = &seen));
    int fd = dial(server);
    latch_wait(&seen.opened, 1);
    ahoy_conn conn = tally_conn(&seen);

    null_where_a_pointer_is_needed(server, conn);
    null_with_a_length(conn);
    null_where_it_means_none(server, conn, fd);
    null_prefix();
    ahoy_server_free(server);
    close(fd);
    return 0;
}
