/*
 * peer.h: what the servers of the benchmark have in common (rust/src/lib.rs has it for those in Rust): their arguments and their first line of output.
 *
 *     PEER echo [PORT]       sends back what it receives
 *     PEER greet [PORT]      answers the first bytes with the greeting, and closes
 *     PEER framed [PORT]     sends back whole messages, each with its length in front (four bytes, big-endian)
 *     PEER publish [PORT]    sends what anyone sends to everyone; a single byte goes back to its sender only
 *     PEER publish-large [PORT]   as publish, but what everyone gets is PEER_LARGE_BYTES zero bytes
 *     PEER version           prints what it is built on
 *
 * Not every server has every mode. It listens on 127.0.0.1 (PORT 0, the default: any free one), prints "port N",
 * and serves on one thread until it is killed. TCP_NODELAY is set once, on the listener: Linux hands it on to what is accepted.
 */
#ifndef PEER_H
#define PEER_H

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/types.h>

#define PEER_GREETING "Hello from server"
#define PEER_GREETING_BYTES (sizeof PEER_GREETING - 1)
#define PEER_BACKLOG 4096
#define PEER_READ_BYTES 65536
#define PEER_HEAD_BYTES 4
#define PEER_MESSAGE_BYTES_MAX 16384
#define PEER_PING_BYTES 1
#define PEER_LARGE_BYTES 1048576

/* The length in front of a message. */
static inline size_t peer_head(const char *head)
{
    const unsigned char *bytes = (const unsigned char *)head;
    return (size_t)bytes[0] << 24 | (size_t)bytes[1] << 16 | (size_t)bytes[2] << 8 | bytes[3];
}

static inline void peer_set_head(char *head, size_t len)
{
    for (int i = 0; i < PEER_HEAD_BYTES; i++)
        head[i] = (char)(len >> (24 - 8 * i));
}

/*
 * Writes anew those of `len` bytes that are whole messages, each with its length in front, to `answers`, which has room
 * for as much. Returns how many bytes they were; -1: a message is longer than may be.
 */
static inline ssize_t peer_answer_messages(char *answers, const char *bytes, size_t len)
{
    size_t done = 0;
    while (len - done >= PEER_HEAD_BYTES) {
        size_t message = peer_head(bytes + done);
        if (message > PEER_MESSAGE_BYTES_MAX)
            return -1;
        if (len - done - PEER_HEAD_BYTES < message)
            break;
        peer_set_head(answers + done, message);
        memcpy(answers + done + PEER_HEAD_BYTES, bytes + done + PEER_HEAD_BYTES, message);
        done += PEER_HEAD_BYTES + message;
    }
    return (ssize_t)done;
}

struct peer {
    const char *mode;
    uint16_t port;
};

static inline __attribute__((noreturn)) void peer_die(const char *what, const char *why)
{
    fprintf(stderr, "%s: %s\n", what, why);
    exit(EXIT_FAILURE);
}

/* `modes`: the names of the modes, each followed by a space. */
static inline struct peer peer_arguments(int argc, char **argv, const char *modes, const char *version)
{
    struct peer peer = { argc > 1 ? argv[1] : "", 0 };
    char name[32];
    if (!strcmp(peer.mode, "version")) {
        puts(version);
        exit(EXIT_SUCCESS);
    }
    snprintf(name, sizeof name, "%s ", peer.mode);
    if (!peer.mode[0] || !strstr(modes, name)) {
        fprintf(stderr, "usage: %s MODE [PORT], MODE one of: %sversion\n", argv[0], modes);
        exit(2);
    }
    if (argc > 2) {
        char *end;
        unsigned long port = strtoul(argv[2], &end, 10);
        if (!argv[2][0] || *end || port > 65535) {
            fprintf(stderr, "%s: not a port: %s\n", argv[0], argv[2]);
            exit(2);
        }
        peer.port = (uint16_t)port;
    }
    return peer;
}

static inline void peer_listens(unsigned port)
{
    printf("port %u\n", port);
    if (fflush(stdout))
        peer_die("stdout", "cannot tell the port");
}

/* A listening socket that does not block, for the servers whose library has none of its own. */
static inline int peer_listen(uint16_t port)
{
    struct sockaddr_in address;
    socklen_t len = sizeof address;
    int one = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    memset(&address, 0, sizeof address);
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one) ||
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one) ||
        bind(fd, (struct sockaddr *)&address, sizeof address) || listen(fd, PEER_BACKLOG) ||
        getsockname(fd, (struct sockaddr *)&address, &len))
        peer_die("listen", strerror(errno));
    peer_listens(ntohs(address.sin_port));
    return fd;
}

#endif
