/*
 * steady: a server with one worker in its steady state, to be run under callgrind; the clients are a process of their
 * own, which runs without it.
 *
 *     steady epoll|uring SCENE ROUNDS SENDS
 *
 * In each round of
 *     echo     one connection sends 64 bytes, which come back
 *     crowd    CROWD connections send 64 bytes each, which all are there before the worker looks; and come back
 *     framed   one connection sends BATCH messages of 64 bytes, each with its length in front, which come back
 *     send     one connection sends a byte, and gets SENDS messages of 64 bytes
 *     sends    the same with their lengths in front
 *     others   the same without, by turns on two connections
 *
 * What a turn does and in which order is the same each time: so the difference between two runs with different numbers
 * is what so many rounds, or so many sends, cost.
 */
#include <ahoy.h>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum { CROWD = 50, BATCH = 16, MESSAGE_BYTES = 64, LENGTH_BYTES = 4, CLIENTS_MAX = CROWD + 1 };

struct scene {
    const char *name;
    int clients;
    bool is_framed, is_gated, answers_more;
};

static const struct scene scenes[] = {
    { "echo", 1, false, false, false },  { "crowd", CROWD + 1, false, true, false }, { "framed", 1, true, false, false },
    { "send", 1, false, false, true },   { "sends", 1, true, false, true },          { "others", 2, false, false, true },
};

static const struct scene *scene;
static long rounds, sends;
/* Between the worker and the clients: the worker says that it is there, and may have to wait until it may go on. */
static int gate[2];
static ahoy_conn conns[CLIENTS_MAX];
static size_t conns_count;
static const char message[MESSAGE_BYTES];

static void check(bool is_well, const char *what) {
    if (!is_well) perror(what), exit(EXIT_FAILURE);
}

/* ---- The worker ------------------------------------------------------------------------------ */

static void on_open(ahoy_conn conn, void *user) {
    (void)user;
    conns[conns_count++] = conn;
    if (conns_count == (size_t)scene->clients) check(write(gate[0], "", 1) == 1, "gate");
}

static void on_close(ahoy_conn conn, ahoy_status reason, void *user) {
    (void)reason, (void)user;
    if (!--conns_count) ahoy_server_stop(ahoy_conn_server(conn), 0);
}

static void on_message(ahoy_conn conn, const void *data, size_t len, void *user) {
    (void)user;
    if (scene->answers_more) {
        for (long i = 0; i < sends; i++) {
            ahoy_conn to = scene->clients == 1 ? conn : conns[i % 2];
            check(ahoy_send(to, message, sizeof message) == AHOY_OK, "ahoy_send");
        }
    } else if (scene->is_gated && len == 1) {
        char byte = 0;
        /* Not by read(2) and write(2), in which the C library locks. */
        check(syscall(SYS_write, gate[0], &byte, 1) == 1 && syscall(SYS_read, gate[0], &byte, 1) == 1, "gate");
    } else {
        check(ahoy_send(conn, data, len) == AHOY_OK, "ahoy_send");
    }
}

/* ---- The clients ----------------------------------------------------------------------------- */

static int dial(unsigned port) {
    struct sockaddr_in name = { .sin_family = AF_INET, .sin_port = htons((uint16_t)port),
                                .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    int one = 1, fd = socket(AF_INET, SOCK_STREAM, 0);
    check(fd >= 0 && !setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one), "socket");
    check(!connect(fd, (struct sockaddr *)&name, sizeof name), "connect");
    return fd;
}

static void give(int fd, const void *data, size_t len) {
    check(send(fd, data, len, MSG_NOSIGNAL) == (ssize_t)len, "send");
}

static void take(int fd, size_t len) {
    static char buffer[1 << 20];
    check(len <= sizeof buffer && recv(fd, buffer, len, MSG_WAITALL) == (ssize_t)len, "recv");
}

static size_t framed_batch(char *out) {
    char *end = out;
    for (int i = 0; i < BATCH; i++) {
        uint32_t length = htonl(MESSAGE_BYTES);
        memcpy(end, &length, LENGTH_BYTES);
        memset(end + LENGTH_BYTES, 'm', MESSAGE_BYTES);
        end += LENGTH_BYTES + MESSAGE_BYTES;
    }
    return (size_t)(end - out);
}

static void one_round(const int *fds) {
    char batch[BATCH * (LENGTH_BYTES + MESSAGE_BYTES)], byte = 0;
    if (scene->is_gated) {
        give(fds[CROWD], &byte, 1);
        check(read(gate[1], &byte, 1) == 1, "gate");
        for (int i = 0; i < CROWD; i++) give(fds[i], message, sizeof message);
        check(write(gate[1], &byte, 1) == 1, "gate");
        for (int i = 0; i < CROWD; i++) take(fds[i], sizeof message);
    } else if (scene->answers_more) {
        size_t each = sizeof message + (scene->is_framed ? LENGTH_BYTES : 0);
        if (scene->is_framed) give(fds[0], "\0\0\0\1.", LENGTH_BYTES + 1);
        else give(fds[0], &byte, 1);
        for (int i = 0; i < scene->clients; i++) take(fds[i], each * (size_t)sends / (size_t)scene->clients);
    } else if (scene->is_framed) {
        size_t len = framed_batch(batch);
        give(fds[0], batch, len);
        take(fds[0], len);
    } else {
        give(fds[0], message, sizeof message);
        take(fds[0], sizeof message);
    }
}

static int clients(unsigned port) {
    int fds[CLIENTS_MAX];
    char byte;
    for (int i = 0; i < scene->clients; i++) fds[i] = dial(port);
    check(read(gate[1], &byte, 1) == 1, "gate");
    for (long i = 0; i < rounds; i++) one_round(fds);
    return EXIT_SUCCESS;
}

/* ---- The process ----------------------------------------------------------------------------- */

static void arguments(char **argv) {
    for (size_t i = 0; i < sizeof scenes / sizeof *scenes; i++)
        if (!strcmp(argv[2], scenes[i].name)) scene = &scenes[i];
    rounds = atol(argv[3]);
    sends = atol(argv[4]);
    if (!scene || rounds < 1 || sends < 1) fprintf(stderr, "no such scene, or numbers\n"), exit(2);
}

/* A process that is started anew, and not merely forked, is not counted. */
static pid_t start_clients(char **argv, unsigned port) {
    pid_t child = fork();
    check(child >= 0, "fork");
    if (child) return child;
    char text[2][16];
    snprintf(text[0], sizeof text[0], "%u", port);
    snprintf(text[1], sizeof text[1], "%d", gate[1]);
    execl(argv[0], argv[0], text[0], argv[2], argv[3], argv[4], text[1], (char *)NULL);
    perror("exec"), _exit(EXIT_FAILURE);
}

static int listens(unsigned *port) {
    struct sockaddr_in name = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t len = sizeof name;
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    check(fd >= 0 && !bind(fd, (struct sockaddr *)&name, len) && !listen(fd, CLIENTS_MAX), "listen");
    check(!getsockname(fd, (struct sockaddr *)&name, &len), "getsockname");
    return *port = ntohs(name.sin_port), fd;
}

int main(int argc, char **argv) {
    if (argc < 5) return fprintf(stderr, "usage: steady epoll|uring SCENE ROUNDS SENDS\n"), 2;
    arguments(argv);
    if (argc == 6) {
        gate[1] = atoi(argv[5]);
        return clients((unsigned)atoi(argv[1]));
    }

    /* The clients come first, and the worker itself stops the server: Valgrind lets nobody else run while it waits on
     * io_uring. */
    char url[32];
    unsigned port;
    int status;
    snprintf(url, sizeof url, "fd:%d", listens(&port));
    check(!socketpair(AF_UNIX, SOCK_STREAM, 0, gate), "socketpair");
    pid_t child = start_clients(argv, port);
    ahoy_server_options options = {
        .size = sizeof options,
        .listen = url,
        .workers = 1,
        .on_open = on_open,
        .on_message = on_message,
        .on_close = on_close,
        .framing = scene->is_framed ? AHOY_FRAMING_LENGTH : AHOY_FRAMING_RAW,
        .driver = !strcmp(argv[1], "uring") ? AHOY_DRIVER_URING : AHOY_DRIVER_EPOLL,
    };
    ahoy_server server;
    if (ahoy_server_start(&options, &server)) return ahoy_perror("steady"), EXIT_FAILURE;
    check(ahoy_server_wait(server) == AHOY_OK && waitpid(child, &status, 0) == child, "wait");
    ahoy_server_free(server);
    return WIFEXITED(status) ? WEXITSTATUS(status) : EXIT_FAILURE;
}
