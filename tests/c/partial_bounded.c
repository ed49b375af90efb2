/*
 * A thousand clients that begin messages and do not end them cost what they have sent, not what they announce; and
 * all of it together counts in `queue_total_bytes_max`: those that would pass it are closed (AHOY_ERR_OVERFLOW).
 */
#include "wire.h"

#include <arpa/inet.h>
#include <malloc.h>
#include <sys/socket.h>
#include <unistd.h>

enum { CLIENTS = 1000, ANNOUNCED_BYTES = 1 << 20, BEGUN_BYTES = 100, SENT_BYTES = 50000,
       TOTAL_BYTES = 8 << 20, SLACK_BYTES = 6 << 20 };

static tally seen = TALLY_INIT;
static int fds[CLIENTS];

static void check_resident(size_t before, size_t allowed, const char *what) {
    size_t now = resident_bytes();
    printf("%s: resident %zu KiB more\n", what, now > before ? (now - before) >> 10 : 0);
    if (!is_slow()) CHECK(now <= before + allowed);
}

int main(void) {
    static char bytes[SENT_BYTES];
    long clients = rounds(CLIENTS);
    CHECK(descriptors_allow(2 * CLIENTS + 100));
    ahoy_server server = start(OPTIONS(.listen = LOOPBACK, .workers = 2, .user = &seen,
                                       .framing = AHOY_FRAMING_LENGTH, .queue_total_bytes_max = TOTAL_BYTES,
                                       .queue_bytes_max = ANNOUNCED_BYTES, .on_open = tally_open,
                                       .on_message = tally_message, .on_close = tally_close));
    for (long i = 0; i < clients; i++) fds[i] = dial(server);
    latch_wait(&seen.opened, clients);
    malloc_trim(0);
    size_t before = resident_bytes();

    /* A gigabyte is announced, and little of it comes. */
    uint32_t announced = htonl(ANNOUNCED_BYTES);
    for (long i = 0; i < clients; i++) {
        send_all(fds[i], &announced, 4);
        send_all(fds[i], bytes, BEGUN_BYTES);
    }
    WAIT_UNTIL(stats_of(server).bytes_in == (uint64_t)clients * (4 + BEGUN_BYTES));
    uint64_t partial = stats_of(server).bytes_partial;
    CHECK(partial >= (uint64_t)clients * BEGUN_BYTES && partial <= (uint64_t)clients * 2 * BEGUN_BYTES);
    check_resident(before, SLACK_BYTES, "announced");
    CHECK_EQ(latch_count(&seen.closed), 0);

    /* Now it comes: more in all than there may be. */
    long ended = 0;
    for (long i = 0; i < clients; i++) {
        for (size_t sent = 0; sent < SENT_BYTES;) {
            ssize_t taken = send(fds[i], bytes, SENT_BYTES - sent, MSG_NOSIGNAL);
            if (taken < 0) break; /* closed meanwhile */
            sent += (size_t)taken;
        }
        CHECK(stats_of(server).bytes_partial <= TOTAL_BYTES);
    }
    if (clients * SENT_BYTES > TOTAL_BYTES) {
        latch_wait(&seen.closed, clients - TOTAL_BYTES / SENT_BYTES);
        check_resident(before, TOTAL_BYTES + SLACK_BYTES, "sent");
        /* There is no room wasted, either: chunks and leases may cost some. */
        CHECK(stats_of(server).bytes_partial > TOTAL_BYTES / 4);
    }
    ended = latch_count(&seen.closed);
    CHECK_EQ(seen.reasons[-AHOY_ERR_OVERFLOW], ended);
    CHECK_EQ(latch_count(&seen.messages), 0);

    for (long i = 0; i < clients; i++) close(fds[i]);
    latch_wait(&seen.closed, clients);
    WAIT_UNTIL(stats_of(server).connections == 0);
    CHECK_EQ(stats_of(server).bytes_partial, 0);

    /* All of it is given back: a message of the whole size that was announced comes through. */
    int fd = dial(server);
    send_all(fd, &announced, 4);
    for (size_t sent = 0; sent < ANNOUNCED_BYTES;) {
        size_t piece = ANNOUNCED_BYTES - sent < sizeof bytes ? ANNOUNCED_BYTES - sent : sizeof bytes;
        send_all(fd, bytes, piece);
        sent += piece;
    }
    latch_wait(&seen.messages, 1);
    CHECK_EQ(latch_count(&seen.bytes), ANNOUNCED_BYTES);
    close(fd);
    ahoy_server_free(server);
    return 0;
}
