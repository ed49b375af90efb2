/*
 * What is at the other end of outgoing connections, without the library: somebody who listens, nobody, a black
 * hole, and a process that can be killed.
 */
#ifndef TEST_REMOTE_H
#define TEST_REMOTE_H

#include "support.h"

typedef struct remote {
    char url[64];
    int listener;   /* a process has a copy */
    int filler;     /* of a black hole: what fills its backlog; -1: none */
    pid_t process;
} remote;

/* The port is taken, but nobody listens: a connect is refused. */
remote remote_dead(void);

/* Somebody listens whose backlog is full: a connect gets no answer. */
remote remote_black_hole(void);

/* Somebody who listens; the test itself accepts. */
remote remote_listening(void);
int remote_accept(const remote *remote);

/*
 * A process that sends back what it gets; or that reads nothing. It can be killed (as by kill -9, so that the
 * system closes its sockets) and started again on the same port.
 */
remote remote_process(bool reads);
void remote_start(remote *remote, bool reads);
void remote_kill(remote *remote);

void remote_end(remote *remote);

#define CONNECT_OPTIONS(...) \
    ((ahoy_connect_options){ .size = sizeof(ahoy_connect_options), __VA_ARGS__ })

#define REQUEST_OPTIONS(...) \
    ((ahoy_request_options){ .size = sizeof(ahoy_request_options), __VA_ARGS__ })

/* Opens a connection, or fails the test. */
ahoy_conn outgoing(ahoy_server server, const char *urls, ahoy_connect_options options);

#endif
