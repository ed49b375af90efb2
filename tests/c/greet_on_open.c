/*
 * AHOY_GREET_ON_OPEN greets as soon as someone connects. Without an on_message the connection is then
 * closed; with one it goes on.
 */
#include "support.h"

#include <unistd.h>

static void greets_and_closes(void) {
    tally seen = TALLY_INIT;
    char answer[64] = "";
    ahoy_server server = start(OPTIONS(.listen = LOOPBACK, .workers = 2, .user = &seen,
                                       .greet = AHOY_GREET_ON_OPEN, .greeting = "220 ready\r\n",
                                       .on_open = tally_open, .on_close = tally_close));
    for (int round = 1; round <= 10; round++) {
        int fd = dial(server); /* without a word */
        CHECK_EQ(recv_until_eof(fd, answer, sizeof answer), 11);
        CHECK_TEXT(answer, "220 ready\r\n");
        latch_wait(&seen.closed, round);
        CHECK_STATUS(seen.reason, AHOY_OK);
        close(fd);
    }
    CHECK_EQ(latch_count(&seen.opened), 10);
    ahoy_server_free(server);
}

static void send_first(ahoy_conn conn, void *user) {
    CHECK_OK(ahoy_send(conn, " and more", 9));
    tally_open(conn, user);
}

static void greets_and_goes_on(void) {
    tally seen = TALLY_INIT;
    char answer[64] = "";
    ahoy_server server = start(OPTIONS(.listen = LOOPBACK, .workers = 2, .user = &seen,
                                       .greet = AHOY_GREET_ON_OPEN, .greeting = "welcome",
                                       .on_open = send_first, .on_message = tally_echo,
                                       .on_close = tally_close));
    int fd = dial(server);
    recv_exact(fd, answer, 16);
    /* Which of the two comes first the header does not say; nothing else may come. */
    CHECK(!memcmp(answer, "welcome and more", 16) || !memcmp(answer, " and morewelcome", 16));
    for (int round = 0; round < 3; round++) {
        send_all(fd, "echo", 4);
        recv_exact(fd, answer, 4);
        CHECK(memcmp(answer, "echo", 4) == 0);
    }
    CHECK_EQ(latch_count(&seen.closed), 0);
    close(fd);
    latch_wait(&seen.closed, 1);
    ahoy_server_free(server);
}

/* With AHOY_GREET_AUTO a server that has an on_message does not greet at all. */
static void auto_leaves_it_to_on_message(void) {
    tally seen = TALLY_INIT;
    char answer[64];
    ahoy_server server = start(OPTIONS(.listen = LOOPBACK, .user = &seen, .greeting = "welcome",
                                       .on_message = tally_message, .on_close = tally_close));
    int fd = dial(server);
    send_all(fd, "hello", 5);
    latch_wait(&seen.bytes, 5);
    CHECK_OK(ahoy_server_stop(server, AHOY_DRAIN_DEFAULT));
    CHECK_EQ(recv_until_eof(fd, answer, sizeof answer), 0);
    close(fd);
    ahoy_server_free(server);
}

int main(void) {
    greets_and_closes();
    greets_and_goes_on();
    auto_leaves_it_to_on_message();
    return 0;
}
