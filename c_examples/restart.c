/*
 * restart: a new version takes over without a refused connection. Start it once, then again and again: each new
 * process gets the listening sockets of the one before it, which finishes what it has begun and exits.
 *
 *     cc -o restart restart.c $(pkg-config --cflags --libs ahoy)
 *     ./restart                      greets on tcp://127.0.0.1:9000; another URL may follow, and after it a name
 *                                    for the control socket (ahoy-restart)
 *
 * From another terminal:  nc 127.0.0.1 9000       tells which process has answered
 *
 * The control socket is handed over as well, as the last descriptor: there is always exactly one process behind it.
 */
#define _GNU_SOURCE /* accept4, struct ucred */
#include <ahoy.h>
#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum { fds_max = 16 };

/* Any user can reach an abstract socket, but only our own user gets our sockets, or gives us some. */
static int is_ours(int fd)
{
    struct ucred peer;
    socklen_t peer_bytes = sizeof peer;

    return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &peer_bytes) == 0 && peer.uid == geteuid();
}

/* Connects `fd` to the process that runs already: 1. If none does, `fd` listens in its stead: 0. Otherwise -1. */
static int find_predecessor(int fd, const char *name)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX }; /* the name is behind a zero byte: an abstract one */
    socklen_t address_bytes = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + strlen(name));

    if (strlen(name) >= sizeof address.sun_path) return errno = ENAMETOOLONG, -1;
    memcpy(address.sun_path + 1, name, strlen(name));
    if (connect(fd, (struct sockaddr *)&address, address_bytes) == 0) return is_ours(fd) ? 1 : (errno = EPERM, -1);
    if (errno != ECONNREFUSED || bind(fd, (struct sockaddr *)&address, address_bytes) < 0) return -1;
    return listen(fd, 8);
}

/* Receives what hand_over sends: the listeners, as URLs, and the control socket, which it returns. */
static int take_over(int predecessor, char *urls)
{
    int fds[fds_max];
    size_t count;

    if (ahoy_descriptors_receive(predecessor, fds, fds_max, &count) != AHOY_OK) return -1;
    for (size_t i = 0; i + 1 < count; i++) urls += sprintf(urls, "%sfd:%d", i > 0 ? "," : "", fds[i]);
    return fds[count - 1];
}

/* Gives all sockets to a successor. 1 when it serves with them; 0 when it does not, and we go on. */
static int hand_over(ahoy_server server, int control, int successor)
{
    int fds[fds_max], serves = 0;
    size_t count;
    char word;

    if (!is_ours(successor)) return 0;
    if (ahoy_server_listeners(server, fds, fds_max - 1, &count) != AHOY_OK) return ahoy_perror("restart"), 0;
    fds[count] = control;
    if (ahoy_descriptors_send(successor, fds, count + 1) == AHOY_OK) serves = read(successor, &word, 1) == 1;
    while (count > 0) close(fds[--count]); /* they were copies */
    return serves;
}

int main(int argc, char **argv)
{
    char address[128], greeting[64], urls[fds_max * sizeof ",fd:2147483647"] = "";
    ahoy_server_options options = { .size = sizeof options, .greet = AHOY_GREET_ON_OPEN, .greeting = greeting,
        .listen = argc > 1 ? argv[1] : "tcp://127.0.0.1:9000" };
    int control = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), predecessor = -1, is_over = 0;
    ahoy_server server;

    switch (find_predecessor(control, argc > 2 ? argv[2] : "ahoy-restart")) {
    case -1: return perror("restart"), 1;
    case 1:
        predecessor = control;
        if ((control = take_over(predecessor, urls)) < 0) return ahoy_perror("restart"), 1;
        options.listen = urls;
    }
    snprintf(greeting, sizeof greeting, "Hello from %ld\n", (long)getpid());
    if (ahoy_server_start(&options, &server) ||
        ahoy_server_address(server, 0, address, sizeof address)) return ahoy_perror("restart"), 1;
    fprintf(stderr, "restart: %ld listening on %s\n", (long)getpid(), address);
    if (predecessor >= 0) { /* only now may it stop */
        send(predecessor, "!", 1, MSG_NOSIGNAL);
        close(predecessor);
    }

    while (!is_over) {
        int successor = accept4(control, NULL, NULL, SOCK_CLOEXEC);
        if (successor < 0) return perror("restart"), ahoy_server_wait(server); /* serves on, as the last one */
        is_over = hand_over(server, control, successor);
        close(successor);
    }
    ahoy_server_stop(server, AHOY_DRAIN_DEFAULT); /* accepts no more, and finishes */
    ahoy_server_wait(server);
    return ahoy_server_free(server), 0;
}
