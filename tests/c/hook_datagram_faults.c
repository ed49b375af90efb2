/*
 * What the system may answer on a datagram socket: passing errors are passed over; a datagram that it refuses to send
 * is dropped and counted. The others go on, and so does the server.
 */
#include "dgram.h"
#include "hooks.h"

#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

static tally seen = TALLY_INIT;
static ahoy_server server;

static void echo_round(int fd) {
    dgram_send(fd, "echo", 4);
    dgram_expect(fd, "echo", 4);
}

/* The call fails three times, and nobody notices. */
static void passes(const char *call, int error, int fd, int bystander) {
    uint64_t dropped = stats_of(server).datagrams_dropped;
    long closed = latch_count(&seen.closed);
    ahoy_test_fail(call, error, 0, 3);
    echo_round(fd);
    echo_round(bystander);
    ahoy_test_fail(call, 0, 0, 0);
    echo_round(fd);
    CHECK_EQ(stats_of(server).datagrams_dropped, dropped);
    CHECK_EQ(latch_count(&seen.closed), closed);
}

/* A receive that fails for good reason or none: what waits is received later, and nobody is closed for it. */
static void receives_later(int error, int fd, int bystander) {
    long closed = latch_count(&seen.closed);
    ahoy_test_fail("recvmmsg", error, 0, 2);
    echo_round(fd);
    echo_round(bystander);
    ahoy_test_fail("recvmmsg", 0, 0, 0);
    CHECK_EQ(latch_count(&seen.closed), closed);
}

/* The datagram is lost, its connection is not, and the next one goes out. */
static void drops(int error, int fd, int bystander) {
    uint64_t dropped = stats_of(server).datagrams_dropped;
    long messages = latch_count(&seen.messages), closed = latch_count(&seen.closed);
    ahoy_test_fail("sendmmsg", error, 0, 1);
    dgram_send(fd, "lost", 4);
    latch_wait(&seen.messages, messages + 1);
    WAIT_UNTIL(stats_of(server).datagrams_dropped == dropped + 1);
    ahoy_test_fail("sendmmsg", 0, 0, 0);
    echo_round(bystander);
    echo_round(fd);
    CHECK_EQ(stats_of(server).datagrams_dropped, dropped + 1);
    WAIT_UNTIL(stats_of(server).bytes_queued == 0);
    CHECK_EQ(latch_count(&seen.closed), closed);
}

/* What has become of datagrams so far. */
static uint64_t settled(void) {
    ahoy_stats stats = stats_of(server);
    return stats.messages_in + stats.datagrams_dropped;
}

/* Memory is refused at every place where the first datagram of a peer needs some: it is dropped, or heard. */
static void memory_for_a_new_peer(int bystander) {
    for (int skip = 0, unhit = 0; unhit < 3; skip++) {
        CHECK(skip < 1000);
        uint64_t before = settled();
        char got[4];
        int fd = dgram_dial(server, 0, NULL);
        ahoy_test_fail("memory", ENOMEM, skip, 1);
        dgram_send(fd, "echo", 4);
        WAIT_UNTIL(settled() == before + 1);
        echo_round(bystander); /* on the same worker, after it; it may be hit as well: see tolerant_echo */
        bool is_hit = ahoy_test_calls("memory") > skip;
        ahoy_test_fail("memory", 0, 0, 0);
        if (!is_hit) dgram_expect(fd, "echo", 4);
        else (void)!recv(fd, got, sizeof got, MSG_DONTWAIT);
        unhit += !is_hit;
        echo_round(fd); /* the next one is answered */
        close(fd);
    }
}

/* Where memory is refused the program tries again: the refusal was for once. */
static void tolerant_echo(ahoy_conn conn, const void *data, size_t len, void *user) {
    ahoy_status status = ahoy_send(conn, data, len);
    if (status == AHOY_ERR_MEMORY) status = ahoy_send(conn, data, len);
    CHECK_OK(status);
    tally_message(conn, data, len, user);
}

int main(void) {
    holdings before = holdings_now();
    server = start(OPTIONS(.listen = "udp://127.0.0.1:0", .workers = 1, .user = &seen, .on_open = tally_open,
                           .on_message = tolerant_echo, .on_close = tally_close));
    int fd = dgram_dial(server, 0, NULL), bystander = dgram_dial(server, 0, NULL);
    echo_round(fd), echo_round(bystander);

    passes("recvmmsg", EINTR, fd, bystander);
    passes("recvmmsg", EAGAIN, fd, bystander);
    passes("sendmmsg", EINTR, fd, bystander);
    passes("sendmmsg", EAGAIN, fd, bystander);
    passes("epoll_wait", EINTR, fd, bystander);
    const int receive_errors[] = { ECONNREFUSED, EHOSTUNREACH, ENOMEM, ENOBUFS, EIO };
    for (size_t i = 0; i < sizeof receive_errors / sizeof receive_errors[0]; i++) {
        receives_later(receive_errors[i], fd, bystander);
    }
    const int send_errors[] = { ECONNREFUSED, EHOSTUNREACH, ENETUNREACH, EPERM, EINVAL, EMSGSIZE, EACCES };
    for (size_t i = 0; i < sizeof send_errors / sizeof send_errors[0]; i++) drops(send_errors[i], fd, bystander);
    memory_for_a_new_peer(bystander);

    ahoy_server_free(server);
    CHECK_EQ(latch_count(&seen.opened), latch_count(&seen.closed));
    close(fd), close(bystander);
    CHECK_HOLDINGS(before);
    return 0;
}
