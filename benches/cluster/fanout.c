/*
 * fanout CLUSTER-URL|- NODES CONNECTIONS WORKERS MESSAGES BYTES: so many nodes, each a process, in each of which so many TCP
 * connections are in one topic, to which the first node publishes. "-": without a cluster. Prints how many deliveries a second
 * there were, until everybody had everything. Never more than a window of messages is on its way: nobody is slow.
 */
#include <ahoy.h>
#include <arpa/inet.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <signal.h>
#include <time.h>
#include <unistd.h>

/* WINDOW: wide enough that nodes, of which there may be more than cores, do not wait for each other's turn at one. */
enum { NODES_MAX = 16, WINDOW = 1024 };

/* What the processes share. */
struct board {
    atomic_int ready;              /* nodes that may be published to */
    atomic_ulong bytes[NODES_MAX]; /* what each node's connections have got */
};

static struct board *board;
static int connections;

static double now_s(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static void nap(void) { nanosleep(&(struct timespec){ .tv_nsec = 50000 }, NULL); }

static _Noreturn void fail(const char *what, const char *why)
{
    fprintf(stderr, "fanout: %s: %s\n", what, why);
    exit(1);
}

/* What a system call gives, if it gives anything. */
static int must(const char *what, int result)
{
    if (result < 0) fail(what, strerror(errno));
    return result;
}

/* The other ends of a node's connections. */
struct readers {
    int poll;
    int node;
};

static void *read_all(void *argument)
{
    struct readers *readers = argument;
    struct epoll_event events[256];
    static char buffer[1 << 16];
    for (;;) {
        int count = epoll_wait(readers->poll, events, 256, -1);
        unsigned long got = 0;
        for (int i = 0; i < count; i++) {
            ssize_t bytes = recv(events[i].data.fd, buffer, sizeof buffer, 0);
            if (bytes > 0) got += (unsigned long)bytes;
            else epoll_ctl(readers->poll, EPOLL_CTL_DEL, events[i].data.fd, NULL);
        }
        atomic_fetch_add(&board->bytes[readers->node], got);
    }
    return NULL;
}

/* Makes the connections; the server has the one end of each. */
static void connect_all(ahoy_server server, struct readers *readers)
{
    struct sockaddr_in at = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t size = sizeof at;
    int listener = must("socket", socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    must("bind", bind(listener, (void *)&at, sizeof at));
    must("listen", listen(listener, 16));
    must("getsockname", getsockname(listener, (void *)&at, &size));
    readers->poll = must("epoll_create1", epoll_create1(EPOLL_CLOEXEC));
    for (int i = 0; i < connections; i++) {
        ahoy_conn conn;
        int ours = must("socket", socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
        must("connect", connect(ours, (void *)&at, sizeof at));
        int theirs = must("accept", accept4(listener, NULL, NULL, SOCK_CLOEXEC));
        if (ahoy_server_adopt(server, theirs, &conn) || ahoy_conn_join(conn, "t")) fail("adopt", ahoy_last_error());
        struct epoll_event wanted = { .events = EPOLLIN, .data.fd = ours };
        must("epoll_ctl", epoll_ctl(readers->poll, EPOLL_CTL_ADD, ours, &wanted));
    }
    close(listener);
}

static ahoy_server start(const char *url, int node, int workers)
{
    static struct readers readers;
    ahoy_cluster_options particulars = { .size = sizeof particulars, .join_ms = 5000 };
    ahoy_server_options options = { .size = sizeof options, .workers = workers,
        .cluster = strcmp(url, "-") ? url : NULL, .cluster_options = &particulars };
    ahoy_server server;
    pthread_t thread;
    if (ahoy_server_start(&options, &server)) fail("start", ahoy_last_error());
    readers.node = node;
    connect_all(server, &readers);
    if (pthread_create(&thread, NULL, read_all, &readers)) fail("thread", "refused");
    return server;
}

/* The fewest messages that a node has got whole. */
static unsigned long arrived(int nodes, unsigned long bytes)
{
    unsigned long least = (unsigned long)-1;
    for (int i = 0; i < nodes; i++) {
        unsigned long got = atomic_load(&board->bytes[i]) / (bytes * (unsigned long)connections);
        if (got < least) least = got;
    }
    return least;
}

static unsigned long total(int nodes)
{
    unsigned long sum = 0;
    for (int i = 0; i < nodes; i++) sum += atomic_load(&board->bytes[i]);
    return sum;
}

int main(int argc, char **argv)
{
    if (argc != 7) return 2;
    int nodes = atoi(argv[2]), workers = atoi(argv[4]);
    unsigned long messages = strtoul(argv[5], NULL, 10), bytes = strtoul(argv[6], NULL, 10);
    connections = atoi(argv[3]);
    if (nodes < 1 || nodes > NODES_MAX) return 2;
    struct rlimit descriptors;
    getrlimit(RLIMIT_NOFILE, &descriptors);
    descriptors.rlim_cur = descriptors.rlim_max;
    setrlimit(RLIMIT_NOFILE, &descriptors);
    board = mmap(NULL, sizeof *board, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    char *data = calloc(1, bytes);
    if (board == MAP_FAILED || !data) fail("memory", strerror(errno));
    /* A message that is lost, or a node, is waited for in vain. */
    alarm(60);
    for (int node = 1; node < nodes; node++) {
        if (must("fork", fork())) continue;
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        start(argv[1], node, workers);
        atomic_fetch_add(&board->ready, 1);
        for (;;) pause();
    }
    ahoy_server server = start(argv[1], 0, workers);
    while (atomic_load(&board->ready) < nodes - 1) nap();
    /* Said again until everybody hears: interest takes a moment to travel. */
    while (!arrived(nodes, bytes)) {
        ahoy_publish(server, "t", data, bytes);
        nap();
    }
    /* What of it is still on its way comes to rest. */
    for (unsigned long before = 0, now; (now = total(nodes)) != before; before = now) usleep(100000);
    for (int i = 0; i < nodes; i++) atomic_store(&board->bytes[i], 0);
    double began = now_s();
    for (unsigned long sent = 0; sent < messages;) {
        if (sent >= arrived(nodes, bytes) + WINDOW) nap();
        else if (ahoy_publish(server, "t", data, bytes) == AHOY_OK) sent++;
        else nap();
    }
    while (arrived(nodes, bytes) < messages) nap();
    printf("%.0f\n", (double)messages * nodes * connections / (now_s() - began));
    fflush(stdout);
    _exit(0);
}
