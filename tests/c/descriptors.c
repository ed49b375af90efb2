/*
 * ahoy_descriptors_send and _receive pass descriptors over a Unix socket: they arrive in order and close-on-exec, and
 * whatever goes wrong none is left open.
 */
#include "support.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

enum { MOST = 253 };

/* Each is the reading end of a pipe that holds its number. */
static void make_numbered(int *fds, int count) {
    for (int i = 0; i < count; i++) {
        int ends[2];
        CHECK(!pipe(ends)); /* without close-on-exec */
        CHECK(write(ends[1], &i, sizeof i) == sizeof i);
        close(ends[1]);
        fds[i] = ends[0];
    }
}

static void check_numbered(const int *fds, int count) {
    for (int i = 0; i < count; i++) {
        int number = -1;
        CHECK(fcntl(fds[i], F_GETFD) & FD_CLOEXEC);
        CHECK(read(fds[i], &number, sizeof number) == sizeof number);
        CHECK_EQ(number, i);
    }
}

static void close_all(const int *fds, int count) {
    for (int i = 0; i < count; i++) CHECK(!close(fds[i]));
}

static void passed(int count, bool nonblocking) {
    holdings before = holdings_now();
    int sent[MOST], received[MOST], pair[2];
    size_t came = 77;
    stream_pair(pair);
    if (nonblocking) {
        for (int i = 0; i < 2; i++) CHECK(!fcntl(pair[i], F_SETFL, O_NONBLOCK));
    }
    make_numbered(sent, count);
    CHECK_OK(ahoy_descriptors_send(pair[0], sent, (size_t)count));
    close_all(sent, count); /* copies: ours are not needed any more */
    CHECK_OK(ahoy_descriptors_receive(pair[1], received, (size_t)count, &came));
    CHECK_EQ(came, count);
    check_numbered(received, count);
    close_all(received, count);

    /* Ordinary bytes may go before and after, and another hand-over. */
    char word[5] = "";
    make_numbered(sent, 1);
    send_all(pair[0], "word", 4);
    recv_exact(pair[1], word, 4);
    for (int i = 0; i < 2; i++) CHECK_OK(ahoy_descriptors_send(pair[0], sent, 1));
    send_all(pair[0], "more", 4);
    for (int i = 0; i < 2; i++) {
        CHECK_OK(ahoy_descriptors_receive(pair[1], received + i, 1, &came));
        CHECK_EQ(came, 1);
    }
    recv_exact(pair[1], word, 4);
    CHECK_TEXT(word, "more");
    check_numbered(received, 1);
    close_all(received, 2), close_all(sent, 1);
    close(pair[0]), close(pair[1]);
    CHECK_HOLDINGS(before);
}

static void bad_sends(void) {
    holdings before = holdings_now();
    int fds[MOST + 1], pair[2], grams[2];
    stream_pair(pair);
    CHECK(!socketpair(AF_UNIX, SOCK_DGRAM, 0, grams));
    int tcp = socket(AF_INET, SOCK_STREAM, 0);
    for (int i = 0; i <= MOST; i++) fds[i] = pair[0];
    CHECK_STATUS(ahoy_descriptors_send(pair[0], fds, 0), AHOY_ERR_INVALID);
    CHECK_STATUS(ahoy_descriptors_send(pair[0], fds, MOST + 1), AHOY_ERR_INVALID);
    CHECK_STATUS(ahoy_descriptors_send(pair[0], NULL, 1), AHOY_ERR_NULL);
    CHECK_STATUS(ahoy_descriptors_send(-1, fds, 1), AHOY_ERR_BAD_DESCRIPTOR);
    CHECK_STATUS(ahoy_descriptors_send(999999, fds, 1), AHOY_ERR_BAD_DESCRIPTOR);
    CHECK_STATUS(ahoy_descriptors_send(tcp, fds, 1), AHOY_ERR_BAD_DESCRIPTOR);
    CHECK_STATUS(ahoy_descriptors_send(grams[0], fds, 1), AHOY_ERR_BAD_DESCRIPTOR);
    fds[1] = 999999;
    CHECK_STATUS(ahoy_descriptors_send(pair[0], fds, 2), AHOY_ERR_BAD_DESCRIPTOR);
    fds[1] = -1;
    CHECK_STATUS(ahoy_descriptors_send(pair[0], fds, 2), AHOY_ERR_BAD_DESCRIPTOR);
    char byte;
    CHECK(recv(pair[1], &byte, 1, MSG_DONTWAIT) < 0); /* nothing was sent by half */
    close(pair[1]);
    CHECK_STATUS(ahoy_descriptors_send(pair[0], fds, 1), AHOY_ERR_RESET); /* and no SIGPIPE */
    close(pair[0]), close(tcp), close_all(grams, 2);
    CHECK_HOLDINGS(before);
}

/* What comes is closed where it cannot be given out: the writing ends are the only ones left, and their peer ends. */
static void no_room(void) {
    holdings before = holdings_now();
    int pair[2], pipes[2], received[3] = { 77, 77, 77 };
    char byte;
    for (size_t capacity = 0; capacity < 3; capacity++) {
        size_t came = 77;
        stream_pair(pair);
        CHECK(!pipe(pipes));
        const int three[3] = { pipes[1], pipes[1], pipes[1] };
        CHECK_OK(ahoy_descriptors_send(pair[0], three, 3));
        CHECK_STATUS(ahoy_descriptors_receive(pair[1], received, capacity, &came), AHOY_ERR_TOO_LONG);
        close(pipes[1]);
        CHECK_EQ(read(pipes[0], &byte, 1), 0); /* nobody holds the other end any more */
        close(pipes[0]), close(pair[0]), close(pair[1]);
        for (int i = 0; i < 3; i++) CHECK_EQ(received[i], 77);
    }
    CHECK_HOLDINGS(before);
}

/* Something else than a hand-over, with or without descriptors. */
static void foreign(const char *bytes, size_t len, bool with_fd) {
    union {
        struct cmsghdr header;
        char bytes[CMSG_SPACE(sizeof(int))];
    } control = { 0 };
    holdings before = holdings_now();
    int pair[2], pipes[2], received[4] = { 77 };
    size_t came = 77;
    stream_pair(pair);
    CHECK(!pipe(pipes));
    struct iovec data = { (void *)bytes, len };
    struct msghdr message = { .msg_iov = &data, .msg_iovlen = 1 };
    if (with_fd) {
        message.msg_control = &control, message.msg_controllen = sizeof control;
        control.header = (struct cmsghdr){ CMSG_LEN(sizeof(int)), SOL_SOCKET, SCM_RIGHTS };
        memcpy(CMSG_DATA(&control.header), &pipes[1], sizeof(int));
    }
    CHECK_EQ(sendmsg(pair[0], &message, 0), (ssize_t)len);
    close(pair[0]);
    ahoy_status status = ahoy_descriptors_receive(pair[1], received, 4, &came);
    CHECK(status == AHOY_ERR_INVALID || status == AHOY_ERR_EOF);
    CHECK_EQ(received[0], 77);
    close(pipes[1]);
    char byte;
    CHECK_EQ(read(pipes[0], &byte, 1), 0);
    close(pipes[0]), close(pair[1]);
    CHECK_HOLDINGS(before);
}

static void bad_receives(void) {
    holdings before = holdings_now();
    int pair[2], received[1] = { 77 }, one = STDIN_FILENO;
    size_t came = 77;
    stream_pair(pair);
    CHECK_OK(ahoy_descriptors_send(pair[0], &one, 1));
    CHECK_STATUS(ahoy_descriptors_receive(pair[1], received, 1, NULL), AHOY_ERR_NULL);
    CHECK_STATUS(ahoy_descriptors_receive(pair[1], NULL, 1, &came), AHOY_ERR_NULL);
    CHECK_OK(ahoy_descriptors_receive(pair[1], received, 1, &came)); /* neither of them took it */
    close(received[0]);
    received[0] = 77, came = 77;
    CHECK_STATUS(ahoy_descriptors_receive(-1, received, 1, &came), AHOY_ERR_BAD_DESCRIPTOR);
    CHECK_STATUS(ahoy_descriptors_receive(STDERR_FILENO, received, 1, &came), AHOY_ERR_BAD_DESCRIPTOR);

    struct timeval short_time = { .tv_usec = 50000 };
    CHECK(!setsockopt(pair[1], SOL_SOCKET, SO_RCVTIMEO, &short_time, sizeof short_time));
    long begin = now_ms();
    CHECK_STATUS(ahoy_descriptors_receive(pair[1], received, 1, &came), AHOY_ERR_TIMEOUT);
    CHECK(now_ms() - begin >= 49);
    close(pair[0]);
    CHECK_STATUS(ahoy_descriptors_receive(pair[1], received, 1, &came), AHOY_ERR_EOF);
    close(pair[1]);
    CHECK_EQ(received[0], 77);
    CHECK_HOLDINGS(before);
}

/* The sender waits for room, the receiver for what comes; a callback may do neither. */
static void *receive_all(void *socket) {
    int received[MOST];
    size_t came;
    for (long i = 0; i < rounds(200); i++) {
        CHECK_OK(ahoy_descriptors_receive(*(int *)socket, received, MOST, &came));
        CHECK_EQ(came, 2);
        close_all(received, 2);
    }
    return NULL;
}

static void waits(void) {
    holdings before = holdings_now();
    pthread_t receiver;
    int pair[2], narrow = 1;
    stream_pair(pair);
    CHECK(!setsockopt(pair[0], SOL_SOCKET, SO_SNDBUF, &narrow, sizeof narrow));
    CHECK(!pthread_create(&receiver, NULL, receive_all, &pair[1]));
    for (long i = 0; i < rounds(200); i++) CHECK_OK(ahoy_descriptors_send(pair[0], pair, 2));
    CHECK(!pthread_join(receiver, NULL));
    close_all(pair, 2);
    CHECK_HOLDINGS(before);
}

static void on_message(ahoy_conn conn, const void *data, size_t len, void *user) {
    int one = STDIN_FILENO, received = 77;
    size_t came = 77;
    CHECK_STATUS(ahoy_descriptors_send(STDIN_FILENO, &one, 1), AHOY_ERR_DEADLOCK);
    CHECK_STATUS(ahoy_descriptors_receive(STDIN_FILENO, &received, 1, &came), AHOY_ERR_DEADLOCK);
    tally_echo(conn, data, len, user);
}

static void inside_a_callback(void) {
    tally seen = TALLY_INIT;
    char byte;
    ahoy_server server = start(OPTIONS(.listen = LOOPBACK, .workers = 1, .user = &seen, .on_message = on_message));
    int fd = dial(server);
    send_all(fd, "x", 1);
    recv_exact(fd, &byte, 1);
    close(fd);
    ahoy_server_free(server);
}

int main(void) {
    CHECK(descriptors_allow(4 * MOST));
    for (int nonblocking = 0; nonblocking < 2; nonblocking++) {
        passed(1, nonblocking), passed(2, nonblocking), passed(MOST, nonblocking);
    }
    bad_sends();
    no_room();
    for (int with_fd = 0; with_fd < 2; with_fd++) {
        foreign("x", 1, with_fd);
        foreign("GET / HTTP/1.1\r\n\r\n", 18, with_fd);
        foreign("\0\0\0\1", 4, with_fd);
        foreign("ahoy:fds", 8, with_fd);
        foreign("ahoy:fds\xff\xff\xff\xff", 12, with_fd);
    }
    foreign("ahoy:fds\0\0\0\1", 12, false);
    bad_receives();
    waits();
    inside_a_callback();
    return 0;
}
