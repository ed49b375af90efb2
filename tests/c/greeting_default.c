/*
 * Without on_message a server greets as the tutorial server does: first bytes in, "Hello from server" out
 * (17 bytes, no newline), close.
 */
#include "support.h"

#include <sys/socket.h>
#include <unistd.h>

/*
 * What a client says beyond the first read is not wanted, but a close(2) with unread bytes would reset the
 * connection and destroy the greeting on its way: it must arrive, and a clean end after it.
 */
static void more_than_one_read_takes(void) {
    static const char much[50000];
    char answer[64];
    ahoy_server server = start(OPTIONS(.listen = LOOPBACK, .message_bytes_max = 100));
    for (int round = 0; round < 50; round++) {
        int fd = dial(server);
        send_all(fd, much, sizeof much); /* one segment on loopback: it is there at once */
        CHECK_EQ(recv_until_eof(fd, answer, sizeof answer), 17);
        CHECK(memcmp(answer, "Hello from server", 17) == 0);
        close(fd);
    }
    ahoy_server_free(server);
}

int main(void) {
    tally seen = TALLY_INIT;
    char answer[64] = "";
    ahoy_server server = start(OPTIONS(.listen = LOOPBACK, .user = &seen, .on_close = tally_close));

    for (int round = 1; round <= 20; round++) {
        int fd = dial(server);
        send_all(fd, "Hello from client", 17);
        if (round % 2) CHECK(shutdown(fd, SHUT_WR) == 0); /* as nc -N does */
        memset(answer, 0, sizeof answer);
        CHECK_EQ(recv_until_eof(fd, answer, sizeof answer), 17);
        CHECK_TEXT(answer, "Hello from server");
        latch_wait(&seen.closed, round);
        CHECK_STATUS(seen.reason, AHOY_OK);
        close(fd);
    }
    WAIT_UNTIL(stats_of(server).closed == 20);
    ahoy_stats stats = stats_of(server);
    CHECK_EQ(stats.messages_in, 20);
    CHECK_EQ(stats.bytes_in, 20 * 17);
    CHECK_EQ(stats.bytes_out, 20 * 17);

    /* Who ends without a word has said nothing that could be answered. */
    int fd = dial(server);
    CHECK(shutdown(fd, SHUT_WR) == 0);
    CHECK_EQ(recv_until_eof(fd, answer, sizeof answer), 0);
    latch_wait(&seen.closed, 21);
    CHECK_STATUS(seen.reason, AHOY_ERR_EOF);
    close(fd);

    ahoy_server_free(server);
    CHECK_EQ(seen.reasons[0], 20);
    more_than_one_read_takes();
    return 0;
}
