/*
 * "fd:N" listens on a socket that the program opened: on success it belongs to the server, which closes it at its
 * end; on an error it stays the program's, open and as it was.
 */
#include "dgram.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

static tally seen;

static const char *fd_url(int fd) {
    static char url[32];
    snprintf(url, sizeof url, "fd:%d", fd);
    return url;
}

static int bound_tcp(sa_family_t family, int type) {
    struct sockaddr_in v4 = { .sin_family = AF_INET, .sin_addr = { htonl(INADDR_LOOPBACK) } };
    struct sockaddr_in6 v6 = { .sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT };
    int fd = socket(family, type, 0); /* blocking, and without close-on-exec */
    CHECK(fd >= 0);
    if (family == AF_INET) CHECK(!bind(fd, (struct sockaddr *)&v4, sizeof v4));
    else CHECK(!bind(fd, (struct sockaddr *)&v6, sizeof v6));
    return fd;
}

static int bound_unix(const char *path, int type) {
    struct sockaddr_un name = { .sun_family = AF_UNIX };
    int fd = socket(AF_UNIX, type, 0);
    CHECK(fd >= 0 && strlen(path) < sizeof name.sun_path);
    strcpy(name.sun_path, path);
    CHECK(!bind(fd, (struct sockaddr *)&name, sizeof name));
    return fd;
}

static int listening(int fd) {
    CHECK(!listen(fd, 10));
    return fd;
}

static ahoy_server begin(const char *listen) {
    seen = (tally)TALLY_INIT;
    return start(OPTIONS(.listen = listen, .workers = 2, .user = &seen, .on_open = tally_open,
                         .on_message = tally_echo, .on_close = tally_close));
}

static bool is_open(int fd) {
    return fcntl(fd, F_GETFD) >= 0;
}

/* The client was there before the server: it waits in the backlog. */
static void serves(int listener, const char *scheme) {
    char url[128], echo[5];
    struct sockaddr_storage name;
    socklen_t len = sizeof name;
    CHECK(!getsockname(listener, (struct sockaddr *)&name, &len));
    int early = socket(name.ss_family, SOCK_STREAM, 0);
    CHECK(!connect(early, (struct sockaddr *)&name, len));
    send_all(early, "early", 5);

    ahoy_server server = begin(fd_url(listener));
    recv_exact(early, echo, 5);
    CHECK(memcmp(echo, "early", 5) == 0);
    CHECK_OK(ahoy_server_address(server, 0, url, sizeof url));
    CHECK(strncmp(url, scheme, strlen(scheme)) == 0); /* as if it had opened it itself */
    int fd = dial(server);
    send_all(fd, "late!", 5);
    recv_exact(fd, echo, 5);
    close(fd), close(early);
    latch_wait(&seen.closed, 2);
    ahoy_server_free(server);
    CHECK(try_dial_url(url) < 0); /* nobody listens any more */
}

static void serves_datagrams(int socket, const char *own) {
    ahoy_server server = begin(fd_url(socket));
    int fd = dgram_dial(server, 0, own);
    dgram_send(fd, "hello", 5);
    dgram_expect(fd, "hello", 5);
    close(fd);
    ahoy_server_free(server);
    CHECK_EQ(latch_count(&seen.closed), 1);
}

static void refused(const char *listen, ahoy_status status) {
    ahoy_server none = { 77 };
    ahoy_server_options options = OPTIONS(.listen = listen, .workers = 1);
    ahoy_status actual = ahoy_server_start(&options, &none);
    if (actual != status) fprintf(stderr, "%s\n", listen);
    CHECK_STATUS(actual, status);
    CHECK_EQ(none.id, 77);
    CHECK(strlen(ahoy_last_error()) > 0);
}

static void refusals(const char *path) {
    int pipes[2], pair[2];
    CHECK(!pipe(pipes) && !socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
    int file = open("/dev/null", O_RDWR), silent = bound_tcp(AF_INET, SOCK_STREAM);
    int fresh = socket(AF_INET, SOCK_DGRAM, 0), sequenced = bound_unix(path, SOCK_SEQPACKET);
    const int bad[] = { 999999, INT32_MAX, file, pipes[0], pipes[1], pair[0], silent, fresh, listening(sequenced) };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) refused(fd_url(bad[i]), AHOY_ERR_BAD_DESCRIPTOR);
    const char *const malformed[] = { "fd:", "fd:x", "fd:-1", "fd:3x", "fd: 3", "fd:99999999999999999999", "fd:/3" };
    for (size_t i = 0; i < sizeof malformed / sizeof malformed[0]; i++) {
        ahoy_server none = { 77 };
        ahoy_server_options options = OPTIONS(.listen = malformed[i]);
        ahoy_status status = ahoy_server_start(&options, &none);
        if (status != AHOY_ERR_URL && status != AHOY_ERR_BAD_DESCRIPTOR) fprintf(stderr, "%s\n", malformed[i]);
        CHECK(status == AHOY_ERR_URL || status == AHOY_ERR_BAD_DESCRIPTOR);
    }
    const int ours[] = { file, pipes[0], pipes[1], pair[0], pair[1], silent, fresh, sequenced };
    for (size_t i = 0; i < sizeof ours / sizeof ours[0]; i++) {
        CHECK(!(fcntl(ours[i], F_GETFL) & O_NONBLOCK));
        CHECK(!close(ours[i]));
    }
    unlink(path);
}

/* A good one beside a bad one stays the program's as well; later it serves. */
static void beside_a_bad_one(void) {
    int listener = listening(bound_tcp(AF_INET, SOCK_STREAM));
    char list[64];
    snprintf(list, sizeof list, "fd:%d,tcp://127.0.0.1:65536", listener);
    refused(list, AHOY_ERR_PORT);
    snprintf(list, sizeof list, "fd:%d,fd:999999", listener);
    refused(list, AHOY_ERR_BAD_DESCRIPTOR);
    snprintf(list, sizeof list, "fd:%d,unix:/nowhere/at/all", listener);
    refused(list, AHOY_ERR_NOT_FOUND);
    CHECK(is_open(listener));
    CHECK(!(fcntl(listener, F_GETFL) & O_NONBLOCK));
    CHECK(!(fcntl(listener, F_GETFD) & FD_CLOEXEC));
    serves(listener, "tcp://127.0.0.1:");
    CHECK(!is_open(listener));
}

int main(void) {
    holdings before = holdings_now();
    char path[96];
    struct stat file;
    snprintf(path, sizeof path, "%s/socket", make_folder());

    serves(listening(bound_tcp(AF_INET, SOCK_STREAM)), "tcp://127.0.0.1:");
    serves(listening(bound_tcp(AF_INET6, SOCK_STREAM)), "tcp://[::1]:");
    serves(listening(bound_unix(path, SOCK_STREAM)), "unix:/");
    CHECK(stat(path, &file) == 0); /* the program made it, so the program removes it */
    unlink(path);
    serves_datagrams(bound_tcp(AF_INET, SOCK_DGRAM), NULL);
    serves_datagrams(bound_tcp(AF_INET6, SOCK_DGRAM), NULL);
    serves_datagrams(bound_unix(path, SOCK_DGRAM), dgram_name(0));
    unlink(path);
    refusals(path);
    beside_a_bad_one();

    /* Taken over, it is close-on-exec, and the server's until its end. */
    int listener = listening(bound_tcp(AF_INET, SOCK_STREAM));
    ahoy_server server = begin(fd_url(listener));
    CHECK(!is_open(listener) || fcntl(listener, F_GETFD) & FD_CLOEXEC);
    ahoy_server_free(server);
    CHECK(!is_open(listener));
    remove_folder();
    CHECK_HOLDINGS(before);
    return 0;
}
