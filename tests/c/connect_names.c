/*
 * Names, on a network of the program's own, where it is the name server and writes the table of hosts. A name with
 * several addresses is tried as RFC 8305 says; and a name server that does not answer holds nobody up.
 */
#include "dgram.h"
#include "remote.h"

#include <arpa/inet.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <unistd.h>

static tally seen, served = TALLY_INIT;
static ahoy_server near;
static int silent; /* the name server's socket */

static void cover(const char *path, const char *own, const char *text) {
    char file[96];
    snprintf(file, sizeof file, "%s/%s", own, strrchr(path, '/') + 1);
    FILE *out = fopen(file, "w");
    CHECK(out && fputs(text, out) >= 0 && !fclose(out));
    if (mount(file, path, "none", MS_BIND, NULL)) skip_test("no file system of its own permitted");
}

static void own_network(void) {
    if (unshare(CLONE_NEWNET | CLONE_NEWNS) && unshare(CLONE_NEWUSER | CLONE_NEWNET | CLONE_NEWNS)) {
        skip_test("no network of its own permitted");
    }
    struct ifreq loopback = { .ifr_name = "lo", .ifr_flags = IFF_UP };
    int fd = socket(AF_INET, SOCK_DGRAM, 0);
    if (ioctl(fd, SIOCSIFFLAGS, &loopback)) skip_test("no network of its own permitted");
    close(fd);
    char folder[64], url[64];
    snprintf(folder, sizeof folder, "%s", make_folder());
    CHECK(!mount("none", "/", "none", MS_REC | MS_PRIVATE, NULL));
    cover("/etc/hosts", folder,
          "127.0.0.1 localhost\n::1 both.test\n127.0.0.1 both.test\n127.0.0.2 four.test\n127.0.0.3 four.test\n");
    cover("/etc/resolv.conf", folder, "nameserver 127.0.0.1\noptions timeout:20 attempts:1\n");
    cover("/etc/nsswitch.conf", folder, "hosts: files dns\n");
    silent = dgram_bind("udp://127.0.0.1:53", url, sizeof url);
}

/* Listens on one port of several hosts at once. */
static int listen_on(sa_family_t family, const char *host, uint16_t port, int backlog) {
    struct sockaddr_in v4 = { .sin_family = AF_INET, .sin_port = htons(port) };
    struct sockaddr_in6 v6 = { .sin6_family = AF_INET6, .sin6_port = htons(port) };
    int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK(inet_pton(family, host, family == AF_INET ? (void *)&v4.sin_addr : (void *)&v6.sin6_addr) == 1);
    if (family == AF_INET) CHECK(!bind(fd, (struct sockaddr *)&v4, sizeof v4));
    else CHECK(!bind(fd, (struct sockaddr *)&v6, sizeof v6));
    CHECK(!listen(fd, backlog));
    return fd;
}

/* The milliseconds it takes to reach somebody at `expected`; on this network every port is free. */
static long reaches(const char *url, const char *expected) {
    char peer[64];
    seen = (tally)TALLY_INIT;
    long begin = now_ms();
    ahoy_conn conn = outgoing(near, url, CONNECT_OPTIONS(.user = &seen, .connect_ms = 5000));
    latch_wait(&seen.opened, 1);
    long spent = now_ms() - begin;
    CHECK_OK(ahoy_conn_peer(conn, peer, sizeof peer));
    CHECK_TEXT(peer, expected);
    CHECK_OK(ahoy_conn_abort(conn));
    latch_wait(&seen.closed, 1);
    return spent;
}

static void several_addresses(void) {
    /* Both answer: IPv6 comes first. */
    int six = listen_on(AF_INET6, "::1", 8000, 100), four = listen_on(AF_INET, "127.0.0.1", 8000, 100);
    reaches("tcp://both.test:8000", "tcp://[::1]:8000");
    /* Nobody there on IPv6: the next one at once. */
    close(six);
    CHECK(reaches("tcp://both.test:8000", "tcp://127.0.0.1:8000") < 200 || is_slow());
    /* No answer on IPv6: the next one after 250 ms, though each has five seconds. */
    six = listen_on(AF_INET6, "::1", 8000, 0);
    int filler = dial_url("tcp://[::1]:8000");
    long spent = reaches("tcp://both.test:8000", "tcp://127.0.0.1:8000");
    CHECK(spent >= 250 - 30);
    if (!is_slow()) CHECK(spent < 2500);
    close(four), close(filler), close(six);

    /* Neither: the last one's reason, with one on_close. */
    seen = (tally)TALLY_INIT;
    outgoing(near, "tcp://both.test:8000", CONNECT_OPTIONS(.user = &seen));
    latch_wait(&seen.closed, 1);
    CHECK_STATUS(seen.reason, AHOY_ERR_REFUSED);
    CHECK_STATUS(ahoy_request("tcp://four.test:8000", NULL, "x", 1, NULL, 0, NULL), AHOY_ERR_REFUSED);

    /* ahoy_request goes the same way. */
    ahoy_server far = start(OPTIONS(.listen = "tcp://127.0.0.3:8000", .workers = 1));
    CHECK_OK(ahoy_request("tcp://four.test:8000", NULL, "x", 1, NULL, 0, NULL));
    ahoy_server_free(far);
}

/* The name server wakes up: none of the names that were asked for exists. */
static void deny_all(void) {
    unsigned char question[512];
    struct sockaddr_in who;
    socklen_t len = sizeof who;
    ssize_t got;
    while ((got = recvfrom(silent, question, sizeof question, MSG_DONTWAIT, (struct sockaddr *)&who, &len)) > 3) {
        question[2] |= 0x80;                                  /* an answer: */
        question[3] = (unsigned char)((question[3] & 0xf0) | 3); /* NXDOMAIN */
        CHECK(sendto(silent, question, (size_t)got, 0, (struct sockaddr *)&who, len) == got);
    }
}

/* The name server has the question and says nothing. The one worker has other things to do meanwhile. */
static void no_answer(void) {
    enum { CONNECT_MS = 300 };
    seen = (tally)TALLY_INIT;
    char far[64], url[64], echo[4], question[512];
    long begin = now_ms();
    outgoing(near, "tcp://slow.test:80", CONNECT_OPTIONS(.user = &seen, .connect_ms = CONNECT_MS));
    CHECK(recv(silent, question, sizeof question, MSG_PEEK) > 0);
    CHECK_OK(ahoy_server_address(near, 0, far, sizeof far));
    int fd = dial_url(far);
    for (int i = 0; i < 10; i++) send_all(fd, "echo", 4), recv_exact(fd, echo, 4);
    CHECK_EQ(latch_count(&seen.closed), 0);
    close(fd);
    latch_wait(&seen.closed, 1);
    CHECK_STATUS(seen.reason, AHOY_ERR_TIMEOUT);
    CHECK(now_ms() - begin >= CONNECT_MS - 20);
    CHECK(now_ms() - begin < 20000); /* not the resolver's own time */

    begin = now_ms();
    CHECK_STATUS(ahoy_request("tcp://slow.test:80", &REQUEST_OPTIONS(.timeout_ms = CONNECT_MS), "x", 1, NULL, 0, NULL),
                 AHOY_ERR_TIMEOUT);
    CHECK(now_ms() - begin >= CONNECT_MS - 20);
    CHECK(now_ms() - begin < 20000);

    /* Closed, it is over at once; a name that is known is not behind those that are awaited. */
    seen = (tally)TALLY_INIT;
    ahoy_conn waiting = outgoing(near, "tcp://slower.test:80", CONNECT_OPTIONS(.user = &seen));
    snprintf(url, sizeof url, "tcp://localhost%s", strrchr(far, ':'));
    outgoing(near, url, CONNECT_OPTIONS(.user = &seen));
    latch_wait(&seen.opened, 1);
    CHECK_OK(ahoy_conn_close(waiting));
    latch_wait(&seen.closed, 1);
    CHECK_STATUS(seen.reason, AHOY_OK);

    /* When it answers after all, the reason is the name. */
    tally named = TALLY_INIT;
    outgoing(near, "tcp://denied.test:80", CONNECT_OPTIONS(.user = &named, .connect_ms = 60000));
    while (latch_count(&named.closed) == 0) deny_all();
    CHECK_STATUS(named.reason, AHOY_ERR_NAME);
}

static void echo(ahoy_conn conn, const void *data, size_t len, void *user) {
    CHECK_OK(ahoy_send(conn, data, len));
    (void)user;
}

int main(void) {
    own_network();
    holdings before = holdings_now();
    near = start(OPTIONS(.listen = LOOPBACK, .workers = 1, .user = &served, .on_open = tally_open,
                         .on_message = echo, .on_close = tally_close));
    several_addresses();
    no_answer();
    long begin = now_ms();
    outgoing(near, "tcp://slow.test:80", CONNECT_OPTIONS(.user = &seen));
    ahoy_server_free(near); /* does not wait for the name server either */
    CHECK(now_ms() - begin < 20000);
    WAIT_UNTIL((deny_all(), threads_running() == before.threads));
    CHECK_HOLDINGS(before);
    close(silent);
    remove_folder();
    return 0;
}
