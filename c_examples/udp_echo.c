/*
 * udp_echo: the same callbacks for datagrams. Each peer address is a connection, which ends when it has been
 * silent for 10 seconds; a message is a datagram.
 *
 *     cc -o udp_echo udp_echo.c $(pkg-config --cflags --libs ahoy)
 *     ./udp_echo                     listens on udp://127.0.0.1:9000; other URLs may follow, commas between:
 *     ./udp_echo udp://127.0.0.1:9000,udp://[::1]:9000,unixgram:/tmp/echo
 *
 * From another terminal:  nc -u 127.0.0.1 9000
 */
#define _POSIX_C_SOURCE 200809L
#include <ahoy.h>
#include <signal.h>
#include <stdio.h>

static void tell(ahoy_conn conn, const char *what)
{
    char peer[64];

    if (ahoy_conn_peer(conn, peer, sizeof peer) != AHOY_OK) return;
    printf("%s %s\n", peer, what);
    fflush(stdout);
}

static void on_open(ahoy_conn conn, void *user)
{
    (void)user;
    tell(conn, "says something");
}

static void on_message(ahoy_conn conn, const void *data, size_t len, void *user)
{
    (void)user;
    ahoy_send(conn, data, len); /* with a full queue this one is lost, as datagrams may be */
}

static void on_close(ahoy_conn conn, ahoy_status reason, void *user)
{
    (void)user;
    tell(conn, reason == AHOY_ERR_TIMEOUT ? "says nothing more" : "is let go");
}

int main(int argc, char **argv)
{
    ahoy_server_options options = { .size = sizeof options, .datagram_idle_ms = 10000,
        .listen = argc > 1 ? argv[1] : "udp://127.0.0.1:9000", .on_open = on_open,
        .on_message = on_message, .on_close = on_close };
    ahoy_server server;
    char address[128];
    sigset_t signals;

    sigemptyset(&signals);
    sigaddset(&signals, SIGINT);
    sigprocmask(SIG_BLOCK, &signals, NULL); /* so that Ctrl-C ends the wait, not the process */
    if (ahoy_server_start(&options, &server)) return ahoy_perror("udp_echo"), 1;
    for (size_t i = 0; ahoy_server_address(server, i, address, sizeof address) == AHOY_OK; i++)
        fprintf(stderr, "udp_echo: listening on %s\n", address);
    int got;
    sigwait(&signals, &got);
    ahoy_server_stop(server, AHOY_DRAIN_DEFAULT);
    ahoy_server_wait(server);
    return ahoy_server_free(server), 0;
}
