/*
 * What is sent to a connection inside one turn leaves in one system call, however many calls it was; a
 * message that comes in costs one receive; and epoll is not told anything for either.
 */
#include "hooks.h"
#include "support.h"

#include <unistd.h>

enum { PIECES = 20, ROUNDS = 50, ANSWER_BYTES = PIECES * (3 + 5) + 17 };

static tally seen = TALLY_INIT;

static void on_message(ahoy_conn conn, const void *data, size_t len, void *user) {
    for (int i = 0; i < PIECES; i++) {
        CHECK_OK(ahoy_send(conn, "abc", 3));
        CHECK_OK(ahoy_send_owned(conn, "owned", 5, NULL, NULL));
    }
    CHECK_OK(ahoy_conn_greet(conn));
    tally_message(conn, data, len, user);
}

int main(void) {
    ahoy_server server = start(OPTIONS(.listen = LOOPBACK, .workers = 1, .user = &seen,
                                       .on_open = tally_open, .on_message = on_message));
    int fd = dial(server);
    char answer[ANSWER_BYTES];
    for (int round = 0; round < 2; round++) {
        send_all(fd, "go", 2); /* a new connection is read from before it is watched */
        recv_exact(fd, answer, sizeof answer);
    }
    ahoy_test_fail("sendmsg", 0, 0, 0); /* counts from here on */
    ahoy_test_fail("recv", 0, 0, 0);
    ahoy_test_fail("epoll_ctl", 0, 0, 0);
    for (int round = 1; round <= ROUNDS; round++) {
        send_all(fd, "go", 2);
        recv_exact(fd, answer, sizeof answer);
        CHECK(memcmp(answer, "abcownedabc", 11) == 0);
        CHECK_EQ(ahoy_test_calls("sendmsg"), round);
        CHECK_EQ(ahoy_test_calls("recv"), round);
        CHECK_EQ(ahoy_test_calls("epoll_ctl"), 0);
    }
    close(fd);
    ahoy_server_free(server);
    return 0;
}
