/*
 * ahoy: ours, as its header says: one worker, so that it has no more than the others.
 */
#include <ahoy.h>

#include "peer.h"

static void echo(ahoy_conn conn, const void *data, size_t len, void *user)
{
    (void)user;
    /* AHOY_ERR_AGAIN would lose bytes; the load notices. It has one request in flight: it never comes. */
    if (ahoy_send(conn, data, len) != AHOY_OK)
        ahoy_conn_close(conn);
}

int main(int argc, char **argv)
{
    char version[64], url[64], *port;
    snprintf(version, sizeof version, "libahoy %s", ahoy_version());
    struct peer peer = peer_arguments(argc, argv, "echo greet ", version);
    snprintf(url, sizeof url, "tcp://127.0.0.1:%u", peer.port);

    ahoy_server_options options = {
        .size = sizeof options,
        .listen = url,
        .workers = 1,
        .greeting = PEER_GREETING,
        .on_message = peer.greets ? NULL : echo,
        .connections_max = 1000000,
        .backlog = PEER_BACKLOG,
    };
    ahoy_server server;
    if (ahoy_server_start(&options, &server) || ahoy_server_address(server, 0, url, sizeof url))
        return ahoy_perror("ahoy"), EXIT_FAILURE;
    port = strrchr(url, ':');
    peer_listens((unsigned)strtoul(port + 1, NULL, 10));
    return ahoy_server_wait(server) ? (ahoy_perror("wait"), EXIT_FAILURE) : EXIT_SUCCESS;
}
