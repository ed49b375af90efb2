/*
 * Memory is refused in a send: AHOY_ERR_MEMORY, nothing queued, the memory of an owned send stays the
 * program's, and the connection lives.
 */
#include "hooks.h"
#include "support.h"

#include <errno.h>
#include <unistd.h>

static tally seen = TALLY_INIT;
static latch freed = LATCH_INIT, users_freed = LATCH_INIT;
static ahoy_status first, second, third;

static void free_user(void *user) {
    CHECK(user == &seen);
    latch_add(&users_freed, 1);
}

static void send_thrice(ahoy_conn conn) {
    static char large[100000];
    first = ahoy_send(conn, large, sizeof large);
    second = ahoy_send_owned(conn, large, sizeof large, count_free, &freed);
    third = ahoy_conn_greet(conn);
}

static void on_message(ahoy_conn conn, const void *data, size_t len, void *user) {
    if (*(const char *)data == '!') {
        ahoy_test_fail("memory", ENOMEM, 0, -1);
        send_thrice(conn);
        ahoy_test_fail("memory", 0, 0, 0);
    } else {
        CHECK_OK(ahoy_send(conn, data, len));
    }
    tally_message(conn, data, len, user);
}

/* The copy of the bytes must have been refused; a call that needs no memory may go through. */
static void check_refused(int fd) {
    static char got[200100];
    CHECK_STATUS(first, AHOY_ERR_MEMORY);
    CHECK(second == AHOY_OK || second == AHOY_ERR_MEMORY);
    CHECK(third == AHOY_OK || third == AHOY_ERR_MEMORY);
    recv_exact(fd, got, (second == AHOY_OK ? 100000 : 0) + (third == AHOY_OK ? 17 : 0));
    send_all(fd, "echo", 4);
    recv_exact(fd, got, 4);
    CHECK(memcmp(got, "echo", 4) == 0);
}

int main(void) {
    ahoy_server server = start(OPTIONS(.listen = LOOPBACK, .workers = 1, .user = &seen,
                                       .on_open = tally_open, .on_message = on_message,
                                       .on_close = tally_close));
    int fd = dial(server);
    latch_wait(&seen.opened, 1);

    /* Inside a callback. */
    send_all(fd, "!", 1);
    latch_wait(&seen.messages, 1);
    check_refused(fd);
    long accepted = second == AHOY_OK;

    /* From another thread. */
    ahoy_test_fail("memory", ENOMEM, 0, -1);
    send_thrice(tally_conn(&seen));
    ahoy_test_fail("memory", 0, 0, 0);
    check_refused(fd);
    accepted += second == AHOY_OK;

    /* User data that could not be taken stays the program's. */
    ahoy_test_fail("memory", ENOMEM, 0, -1);
    ahoy_status status = ahoy_conn_set_user(tally_conn(&seen), &seen, free_user);
    ahoy_test_fail("memory", 0, 0, 0);
    CHECK(status == AHOY_OK || status == AHOY_ERR_MEMORY);
    CHECK_EQ(latch_count(&users_freed), 0);

    CHECK_EQ(latch_count(&seen.closed), 0);
    close(fd);
    latch_wait(&seen.closed, 1);
    ahoy_server_free(server);
    CHECK_EQ(latch_count(&freed), accepted);
    CHECK_EQ(latch_count(&users_freed), status == AHOY_OK ? 1 : 0);
    return 0;
}
