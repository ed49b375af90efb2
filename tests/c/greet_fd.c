/*
 * ahoy_greet_fd: the one call for an accept loop that a program already has. The socket stays the
 * program's: open, with its flags as they were.
 */
#include "support.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

static void *speak_late(void *fd) {
    wait_moment();
    send_all(*(int *)fd, "Hello from client", 17);
    return NULL;
}

static void greets(bool blocking, bool late) {
    int pair[2];
    char text[64], answer[17];
    size_t received = 77;
    pthread_t client;
    CHECK(!socketpair(AF_UNIX, SOCK_STREAM | (blocking ? 0 : SOCK_NONBLOCK), 0, pair));
    CHECK(!fcntl(pair[1], F_SETFL, 0));
    int flags = fcntl(pair[0], F_GETFL);

    if (late) CHECK(!pthread_create(&client, NULL, speak_late, &pair[1]));
    else send_all(pair[1], "Hello from client", 17);
    CHECK_OK(ahoy_greet_fd(pair[0], NULL, text, sizeof text, &received));
    if (late) CHECK(!pthread_join(client, NULL));
    CHECK_TEXT(text, "Hello from client");
    CHECK_EQ(received, 17);
    recv_exact(pair[1], answer, 17);
    CHECK(memcmp(answer, "Hello from server", 17) == 0);

    /* Still open and as it was. */
    CHECK_EQ(fcntl(pair[0], F_GETFL), flags);
    send_all(pair[0], "more", 4);
    recv_exact(pair[1], answer, 4);
    close(pair[0]), close(pair[1]);
}

/* More than the system takes at once, into a socket that does not block. */
static void *read_all(void *fd) {
    static char got[4000001];
    recv_exact(*(int *)fd, got, sizeof got - 1);
    for (size_t i = 0; i < sizeof got - 1; i++) CHECK(got[i] == 'g');
    return NULL;
}

static void greets_at_length(bool blocking) {
    static char greeting[4000001];
    int pair[2];
    pthread_t reader;
    memset(greeting, 'g', sizeof greeting - 1);
    CHECK(!socketpair(AF_UNIX, SOCK_STREAM | (blocking ? 0 : SOCK_NONBLOCK), 0, pair));
    CHECK(!fcntl(pair[1], F_SETFL, 0));
    send_all(pair[1], "hi", 2);
    CHECK(!pthread_create(&reader, NULL, read_all, &pair[1]));
    CHECK_OK(ahoy_greet_fd(pair[0], greeting, NULL, 0, NULL));
    CHECK(!pthread_join(reader, NULL));
    close(pair[0]), close(pair[1]);
}

static void a_client_that_ends_is_greeted_all_the_same(void) {
    int pair[2];
    char text[8] = "before", answer[17];
    size_t received = 77;
    stream_pair(pair);
    CHECK(shutdown(pair[1], SHUT_WR) == 0);
    CHECK_OK(ahoy_greet_fd(pair[0], NULL, text, sizeof text, &received));
    CHECK_TEXT(text, "");
    CHECK_EQ(received, 0);
    recv_exact(pair[1], answer, 17);
    close(pair[0]), close(pair[1]);
}

static void bad_descriptors(void) {
    holdings before = holdings_now();
    int pipes[2], datagram = socket(AF_INET, SOCK_DGRAM, 0), fresh = socket(AF_INET, SOCK_STREAM, 0);
    int listener = socket(AF_UNIX, SOCK_STREAM, 0), file = open("/dev/null", O_RDWR);
    CHECK(pipe(pipes) == 0 && datagram >= 0 && fresh >= 0 && file >= 0);
    CHECK(!bind(listener, &(struct sockaddr){ .sa_family = AF_UNIX }, sizeof(sa_family_t)));
    CHECK(!listen(listener, 1));
    const int bad[] = { -1, -2, INT32_MIN, INT32_MAX, 999999, pipes[0], file, datagram, fresh, listener };
    size_t received = 77;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        CHECK_STATUS(ahoy_greet_fd(bad[i], NULL, NULL, 0, &received), AHOY_ERR_BAD_DESCRIPTOR);
        CHECK(strlen(ahoy_last_error()) > 0);
    }
    CHECK_EQ(received, 77);
    close(pipes[0]), close(pipes[1]), close(datagram), close(fresh), close(listener), close(file);
    CHECK_HOLDINGS(before);
}

/* The socket's own timeouts count, also on a socket that does not block. */
static void timeouts(bool blocking) {
    static char greeting[4000001];
    int pair[2];
    struct timeval timeout = { .tv_usec = 50000 };
    CHECK(!socketpair(AF_UNIX, SOCK_STREAM | (blocking ? 0 : SOCK_NONBLOCK), 0, pair));
    CHECK(!setsockopt(pair[0], SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof timeout));
    CHECK_STATUS(ahoy_greet_fd(pair[0], NULL, NULL, 0, NULL), AHOY_ERR_TIMEOUT);

    CHECK(!setsockopt(pair[0], SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof timeout));
    memset(greeting, 'g', sizeof greeting - 1);
    send_all(pair[1], "hi", 2);
    CHECK_STATUS(ahoy_greet_fd(pair[0], greeting, NULL, 0, NULL), AHOY_ERR_TIMEOUT);
    close(pair[0]), close(pair[1]);
}

/* An accept loop's client, gone before it is greeted. */
static void a_client_that_resets(void) {
    struct sockaddr_in name = { .sin_family = AF_INET, .sin_addr = { htonl(INADDR_LOOPBACK) } };
    socklen_t len = sizeof name;
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK(!bind(listener, (struct sockaddr *)&name, len) && !listen(listener, 1));
    CHECK(!getsockname(listener, (struct sockaddr *)&name, &len));
    CHECK(!connect(client, (struct sockaddr *)&name, len));
    int fd = accept(listener, NULL, NULL);
    CHECK(fd >= 0);
    close_reset(client);
    struct pollfd reset = { .fd = fd };
    CHECK(poll(&reset, 1, -1) == 1 && (reset.revents & POLLERR));
    CHECK_STATUS(ahoy_greet_fd(fd, "greeting", NULL, 0, NULL), AHOY_ERR_RESET);
    CHECK_STATUS(ahoy_greet_fd(fd, "greeting", NULL, 0, NULL), AHOY_ERR_RESET);
    close(fd), close(listener);
}

int main(void) {
    greets(true, false), greets(true, true);
    greets(false, false), greets(false, true);
    greets_at_length(true), greets_at_length(false);
    a_client_that_ends_is_greeted_all_the_same();
    bad_descriptors();
    timeouts(true), timeouts(false);
    a_client_that_resets();
    return 0;
}
