/*
 * Without an on_message a datagram server greets: the first datagram of a peer is answered with the greeting, and the
 * connection is over. The next one is greeted again.
 */
#include "dgram.h"

#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

static tally seen;

static void greets(const char *listen, const char *own) {
    seen = (tally)TALLY_INIT;
    ahoy_server server = start(OPTIONS(.listen = listen, .workers = 1, .user = &seen, .on_open = tally_open,
                                       .on_close = tally_close));
    int fd = dgram_dial(server, 0, own);
    for (long round = 1; round <= 5; round++) {
        dgram_send(fd, "Hello from client", 17);
        dgram_expect(fd, "Hello from server", 17);
        latch_wait(&seen.closed, round);
        CHECK_EQ(latch_count(&seen.opened), round);
        CHECK_STATUS(seen.reason, AHOY_OK);
    }
    CHECK_EQ(stats_of(server).messages_in, 5);
    CHECK_EQ(stats_of(server).messages_out, 5);
    close(fd);
    ahoy_server_free(server);
}

/* As soon as a peer shows; with an on_message the conversation goes on. */
static void on_open_and_on(void) {
    seen = (tally)TALLY_INIT;
    ahoy_server server = start(OPTIONS(.listen = "udp://127.0.0.1:0", .workers = 1, .user = &seen,
                                       .greet = AHOY_GREET_ON_OPEN, .greeting = "Ahoy", .on_open = tally_open,
                                       .on_message = tally_echo, .on_close = tally_close));
    int fd = dgram_dial(server, 0, NULL);
    dgram_send(fd, "one", 3);
    dgram_expect(fd, "Ahoy", 4);
    dgram_expect(fd, "one", 3);
    dgram_send(fd, "two", 3);
    dgram_expect(fd, "two", 3);
    CHECK_OK(ahoy_conn_greet(tally_conn(&seen)));
    dgram_expect(fd, "Ahoy", 4);
    CHECK_EQ(latch_count(&seen.opened), 1);
    close(fd);
    ahoy_server_free(server);
}

/* A whole program in one call. */
static void served(void) {
    char url[64];
    int probe = dgram_bind("udp://127.0.0.1:0", url, sizeof url);
    close(probe);
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        alarm(30);
        CHECK_OK(ahoy_serve(url, NULL));
        leave_child();
    }
    int fd = dgram_dial_url(url, NULL);
    ssize_t got = -1;
    char answer[32];
    while (got < 0) { /* until it listens */
        if (send(fd, "hi", 2, 0) == 2) wait_moment();
        got = recv(fd, answer, sizeof answer, MSG_DONTWAIT);
    }
    CHECK_EQ(got, 17);
    CHECK(memcmp(answer, "Hello from server", 17) == 0);
    int status;
    CHECK(!kill(pid, SIGTERM) && waitpid(pid, &status, 0) == pid);
    CHECK_EQ(status, 0);
    close(fd);
}

int main(void) {
    served(); /* forks, before the library is used */
    holdings before = holdings_now();
    greets("udp://127.0.0.1:0", NULL);
    greets("udp://[::1]:0", NULL);
    greets(dgram_name(0), dgram_name(1));
    on_open_and_on();
    CHECK_HOLDINGS(before);
    return 0;
}
