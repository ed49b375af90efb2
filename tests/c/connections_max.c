/* Connections over `connections_max` are accepted, closed at once and counted; room comes back. */
#include "support.h"

#include <errno.h>
#include <unistd.h>

enum { MAX = 10, MORE = 25 };

static tally seen = TALLY_INIT;

int main(void) {
    ahoy_server server = start(OPTIONS(.listen = LOOPBACK, .workers = 2, .user = &seen,
                                       .connections_max = MAX, .on_open = tally_open,
                                       .on_message = tally_echo, .on_close = tally_close));
    int fds[MAX];
    char byte;
    for (int i = 0; i < MAX; i++) fds[i] = dial(server);
    latch_wait(&seen.opened, MAX);

    for (int i = 0; i < MORE; i++) {
        int fd = dial(server);
        ssize_t got = recv_until_eof(fd, &byte, 1);
        CHECK(got == 0 || got == -ECONNRESET);
        close(fd);
    }
    WAIT_UNTIL(stats_of(server).refused == MORE);
    CHECK_EQ(latch_count(&seen.opened), MAX); /* the program has not heard of them */
    CHECK_EQ(latch_count(&seen.closed), 0);
    CHECK_EQ(stats_of(server).opened, MAX);

    /* An adoption is refused with a status, and the socket stays the program's. */
    int pair[2];
    stream_pair(pair);
    CHECK_STATUS(ahoy_server_adopt(server, pair[0], NULL), AHOY_ERR_AGAIN);
    send_all(pair[0], "x", 1);
    recv_exact(pair[1], &byte, 1);

    /* Those within the limit do not notice, and each one that leaves makes room for one. */
    for (int i = 0; i < MAX; i++) {
        char echo[4];
        send_all(fds[i], "echo", 4);
        recv_exact(fds[i], echo, 4);
    }
    close(fds[0]);
    latch_wait(&seen.closed, 1);
    WAIT_UNTIL(stats_of(server).connections == MAX - 1);
    CHECK_OK(ahoy_server_adopt(server, pair[0], NULL));
    latch_wait(&seen.opened, MAX + 1);
    close(pair[1]);
    latch_wait(&seen.closed, 2);
    WAIT_UNTIL(stats_of(server).connections == MAX - 1);
    fds[0] = dial(server);
    latch_wait(&seen.opened, MAX + 2);

    for (int i = 0; i < MAX; i++) close(fds[i]);
    latch_wait(&seen.closed, MAX + 2);
    ahoy_server_free(server);
    return 0;
}
