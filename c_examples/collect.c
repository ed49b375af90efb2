/*
 * collect: what programs report in datagrams is written to the standard output, and goes to whoever watches over TCP.
 * Both come through one topic: connections join it, a function of the program subscribes to it.
 *
 *     cc -o collect collect.c $(pkg-config --cflags --libs ahoy)
 *     ./collect                      takes reports on udp://127.0.0.1:9000, and watchers on tcp://127.0.0.1:9000;
 *     ./collect udp://0.0.0.0:514,tcp://127.0.0.1:9000?framing=lines   other URLs
 *
 * From other terminals:  nc 127.0.0.1 9000        logger --server 127.0.0.1 --port 9000 --udp something happened
 */
#define _POSIX_C_SOURCE 200809L
#include <ahoy.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

static void on_open(ahoy_conn conn, void *user)
{
    char peer[64];

    (void)user;
    if (ahoy_conn_peer(conn, peer, sizeof peer) == AHOY_OK && strncmp(peer, "tcp:", 4) == 0)
        ahoy_conn_join(conn, "reports"); /* it is sent what is published there, with its own framing */
}

static void on_message(ahoy_conn conn, const void *data, size_t len, void *user)
{
    const char *text = data;

    (void)user;
    while (len > 0 && (text[len - 1] == '\n' || text[len - 1] == '\0')) len--;
    ahoy_publish(ahoy_conn_server(conn), "reports", text, len);
}

/* The calls of one subscription never overlap, whichever workers the reports came to: no lock. */
static void on_report(ahoy_server server, const char *topic, const void *data, size_t len, void *user)
{
    (void)server, (void)topic;
    fwrite(data, 1, len, user);
    fputc('\n', user);
    fflush(user);
}

int main(int argc, char **argv)
{
    ahoy_server_options options = { .size = sizeof options, .on_open = on_open, .on_message = on_message,
        .listen = argc > 1 ? argv[1] : "udp://127.0.0.1:9000,tcp://127.0.0.1:9000?framing=lines" };
    ahoy_server server;
    char address[128];
    sigset_t signals;

    sigemptyset(&signals);
    sigaddset(&signals, SIGINT);
    sigprocmask(SIG_BLOCK, &signals, NULL); /* so that Ctrl-C ends the wait, not the process */
    if (ahoy_server_start(&options, &server) ||
        ahoy_subscribe(server, "reports", on_report, stdout, NULL, NULL)) return ahoy_perror("collect"), 1;
    for (size_t i = 0; ahoy_server_address(server, i, address, sizeof address) == AHOY_OK; i++)
        fprintf(stderr, "collect: listening on %s\n", address);
    int got;
    sigwait(&signals, &got);
    ahoy_server_stop(server, AHOY_DRAIN_DEFAULT);
    ahoy_server_wait(server);
    return ahoy_server_free(server), 0;
}
