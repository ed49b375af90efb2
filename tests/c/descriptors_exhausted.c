/*
 * The process has no descriptor left: the listener rests and tries again, the worker does not spin, and
 * whoever waited is served once descriptors are free. Nothing else of the server suffers.
 */
#include "support.h"

#include <errno.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

enum { CLIENTS = 8, DESCRIPTORS_MAX = 256 };

static tally seen = TALLY_INIT;

static double cpu_seconds(void) {
    struct rusage usage;
    CHECK(getrusage(RUSAGE_SELF, &usage) == 0);
    return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
           (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

int main(void) {
    if (getenv("TEST_VALGRIND")) skip_test("valgrind closes what is accepted beyond its own limit");
    /* Before anything is asked of the system: what is asked for goes by the limit of that moment. */
    struct rlimit limit;
    CHECK(getrlimit(RLIMIT_NOFILE, &limit) == 0);
    limit.rlim_cur = DESCRIPTORS_MAX;
    CHECK(setrlimit(RLIMIT_NOFILE, &limit) == 0);
    ahoy_server server = start(OPTIONS(.listen = LOOPBACK, .workers = 2, .user = &seen,
                                       .on_open = tally_open, .on_message = tally_echo,
                                       .on_close = tally_close));
    char url[128], echo[4];
    CHECK_OK(ahoy_server_address(server, 0, url, sizeof url));
    int first = dial_url(url);
    latch_wait(&seen.opened, 1);

    /* Sockets for the clients, and then no descriptor more. */
    int fds[CLIENTS];
    for (int i = 0; i < CLIENTS; i++) fds[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int taken[DESCRIPTORS_MAX], count = 0;
    while ((taken[count] = dup(STDERR_FILENO)) >= 0) count++;
    CHECK_EQ(errno, EMFILE);
    for (int i = 0; i < CLIENTS; i++) connect_url(fds[i], url);

    WAIT_UNTIL(stats_of(server).rests >= 3);
    double busy = cpu_seconds();
    uint64_t rests = stats_of(server).rests;
    WAIT_UNTIL(stats_of(server).rests >= rests + 5);
    /* Each rest is 100 ms: a worker that spins meanwhile would have burnt 500. */
    if (!is_slow()) CHECK(cpu_seconds() - busy < 0.25);

    /* Those who are connected do not notice. */
    send_all(first, "echo", 4);
    recv_exact(first, echo, 4);

    CHECK_EQ(latch_count(&seen.opened), 1);
    while (count > 0) close(taken[--count]);
    latch_wait(&seen.opened, 1 + CLIENTS);
    for (int i = 0; i < CLIENTS; i++) {
        send_all(fds[i], "echo", 4);
        recv_exact(fds[i], echo, 4);
        close(fds[i]);
    }
    close(first);
    latch_wait(&seen.closed, 1 + CLIENTS);
    ahoy_server_free(server);
    return 0;
}
