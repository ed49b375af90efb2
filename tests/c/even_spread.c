/*
 * New connections spread evenly over the workers: of 10,000 on two workers neither holds over 55 %, whether
 * they come by TCP, by a Unix socket, or by adoption.
 */
#include "support.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

enum { CONNECTIONS = 10000 };

/* The clients are a process of their own, so that neither side runs out of descriptors. */
static int orders[2];
static pid_t clients;

/* From several loopback addresses, so that the ports of one do not run out. */
static int dial_from(const char *url, long number) {
    struct sockaddr_in own = { .sin_family = AF_INET };
    own.sin_addr.s_addr = htonl(INADDR_LOOPBACK + (uint32_t)(number % 4));
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), yes = 1;
    CHECK(fd >= 0);
    /* Only the pair of addresses has to be unique: the port is chosen at the connect. */
    CHECK(!setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &yes, sizeof yes));
    CHECK(!bind(fd, (struct sockaddr *)&own, sizeof own));
    connect_url(fd, url);
    return fd;
}

/* For each URL that is ordered: connects, stays until the next byte comes, and leaves. */
static void be_clients(long count) {
    char url[128], byte;
    static int fds[CONNECTIONS];
    deadline_seconds(60); /* a child does not inherit it */
    while (read(orders[0], url, sizeof url) == sizeof url) {
        for (long i = 0; i < count; i++) {
            fds[i] = strncmp(url, "tcp:", 4) ? dial_url(url) : dial_from(url, i);
        }
        CHECK(read(orders[0], &byte, 1) == 1);
        for (long i = 0; i < count; i++) close_reset(fds[i]);
    }
    _exit(0);
}

/* They all live at once, as the connections of a real server do between a request and the next. */
static void check_spread(ahoy_server server, long count) {
    WAIT_UNTIL(stats_of(server).opened == (uint64_t)count);
    ahoy_stats stats = stats_of(server);
    CHECK_EQ(stats.workers, 2);
    CHECK_EQ(stats.connections, count);
    CHECK_EQ(stats.refused, 0);
    printf("%ld connections, %ld on the fuller worker\n", count, (long)stats.connections_worker_max);
    CHECK(stats.connections_worker_max * 100 <= (uint64_t)count * 55);
    CHECK(stats.connections_worker_max * 2 >= (uint64_t)count);
}

static void by_listener(const char *listen, long count) {
    char url[128] = "";
    ahoy_server server = start(OPTIONS(.listen = listen, .workers = 2));
    CHECK_OK(ahoy_server_address(server, 0, url, sizeof url));
    CHECK(write(orders[1], url, sizeof url) == sizeof url);
    check_spread(server, count);
    CHECK(write(orders[1], "", 1) == 1);
    ahoy_server_free(server);
}

static void by_adoption(long count) {
    ahoy_server server = start(OPTIONS(.workers = 2));
    int *fds = calloc((size_t)count, sizeof *fds);
    for (long i = 0; i < count; i++) {
        int pair[2];
        ahoy_status status;
        stream_pair(pair);
        while ((status = ahoy_server_adopt(server, pair[0], NULL)) == AHOY_ERR_AGAIN) wait_moment();
        CHECK_OK(status);
        fds[i] = pair[1];
    }
    check_spread(server, count);
    for (long i = 0; i < count; i++) close(fds[i]);
    free(fds);
    ahoy_server_free(server);
}

int main(void) {
    long count = rounds(CONNECTIONS);
    CHECK(descriptors_allow((unsigned)count + 100));
    CHECK(!socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, orders));
    clients = fork(); /* before this process has used the library */
    CHECK(clients >= 0);
    if (clients == 0) {
        close(orders[1]);
        be_clients(count);
    }
    close(orders[0]);
    by_listener(LOOPBACK, count);
    by_listener(abstract_url(), count);
    close(orders[1]);
    int status;
    CHECK(waitpid(clients, &status, 0) == clients);
    CHECK_EQ(status, 0);
    by_adoption(count / 3); /* both ends are in this process */
    return 0;
}
