/*
 * ahoy: ours, as its header says: one worker, so that it has no more than the others; two where that is what is measured.
 *
 * AHOY_ERR_AGAIN would lose bytes; the load notices. It has one request in flight: it never comes.
 */
#include <ahoy.h>
#include <libgen.h>
#include <unistd.h>

#include "peer.h"

static char large[PEER_LARGE_BYTES];

static void echo(ahoy_conn conn, const void *data, size_t len, void *user)
{
    (void)user;
    if (ahoy_send(conn, data, len) != AHOY_OK)
        ahoy_conn_close(conn);
}

static void join(ahoy_conn conn, void *user)
{
    (void)user;
    if (ahoy_conn_join(conn, "all") != AHOY_OK)
        ahoy_conn_close(conn);
}

static void publish(ahoy_conn conn, const void *data, size_t len, void *user)
{
    if (len == PEER_PING_BYTES)
        echo(conn, data, len, user);
    else if (ahoy_publish(ahoy_conn_server(conn), "all", data, len) != AHOY_OK)
        ahoy_conn_close(conn);
}

static void publish_large(ahoy_conn conn, const void *data, size_t len, void *user)
{
    if (len == PEER_PING_BYTES)
        echo(conn, data, len, user);
    else
        publish(conn, large, sizeof large, user);
}

/* `ahoy relay LISTEN_FD TARGET_PORT`: c_examples/proxy.c as it is, which lies beside this program. */
static int relay(char **argv)
{
    char program[4096], listen[32], target[64];
    snprintf(listen, sizeof listen, "fd:%s", argv[2]);
    snprintf(target, sizeof target, "tcp://127.0.0.1:%s", argv[3]);
    snprintf(program, sizeof program, "%s/proxy", dirname(argv[0]));
    execl(program, "proxy", listen, target, (char *)NULL);
    return perror(program), EXIT_FAILURE;
}

/* The driver that it chooses by itself for a server of one worker. */
static const char *chosen(ahoy_message_fn on_message)
{
    ahoy_server_options options = { .size = sizeof options, .listen = "tcp://127.0.0.1:0", .workers = 1, .on_message = on_message };
    ahoy_server server;
    if (ahoy_server_start(&options, &server)) {
        ahoy_perror("ahoy");
        exit(EXIT_FAILURE);
    }
    const char *name = ahoy_server_driver(server);
    ahoy_server_free(server);
    return name;
}

/* The version, and what that chooses. */
static void describe(char *text, size_t room)
{
    snprintf(text, room, "libahoy %s, which greets on %s and talks on %s", ahoy_version(), chosen(NULL), chosen(echo));
}

/* Whether a mode begins so; then it is what follows. */
static int without(const char **mode, const char *beginning)
{
    int begins = !strncmp(*mode, beginning, strlen(beginning));
    *mode += begins ? strlen(beginning) : 0;
    return begins;
}

int main(int argc, char **argv)
{
    if (argc == 4 && !strcmp(argv[1], "relay"))
        return relay(argv);

    char version[64] = "", url[64];
    if (argc == 2 && !strcmp(argv[1], "version"))
        describe(version, sizeof version);
    struct peer peer = peer_arguments(argc, argv,
                                      "echo greet framed publish publish-large "
                                      "epoll-echo epoll-greet epoll-framed epoll-publish epoll-publish-large "
                                      "uring-echo uring-greet uring-framed uring-publish uring-publish-large "
                                      "two-echo two-greet two-framed two-epoll-echo two-epoll-greet two-epoll-framed ",
                                      version);
    const char *mode = peer.mode;
    int workers = 1 + without(&mode, "two-");
    int driver = without(&mode, "epoll-")   ? AHOY_DRIVER_EPOLL
                 : without(&mode, "uring-") ? AHOY_DRIVER_URING
                                            : AHOY_DRIVER_AUTO;
    snprintf(url, sizeof url, "tcp://127.0.0.1:%u", peer.port);

    ahoy_server_options options = {
        .size = sizeof options,
        .listen = url,
        .workers = workers,
        .greeting = PEER_GREETING,
        .on_message = echo,
        .connections_max = 1000000,
        .backlog = PEER_BACKLOG,
        .driver = driver,
        .queue_bytes_max = 2 * PEER_LARGE_BYTES,
    };
    if (!strcmp(mode, "greet")) {
        options.on_message = NULL;
    } else if (!strcmp(mode, "framed")) {
        options.framing = AHOY_FRAMING_LENGTH;
        options.message_bytes_max = PEER_MESSAGE_BYTES_MAX;
    } else if (!strncmp(mode, "publish", strlen("publish"))) {
        options.on_open = join;
        options.on_message = !strcmp(mode, "publish") ? publish : publish_large;
    }
    ahoy_server server;
    if (ahoy_server_start(&options, &server) || ahoy_server_address(server, 0, url, sizeof url))
        return ahoy_perror("ahoy"), EXIT_FAILURE;
    peer_listens((unsigned)strtoul(strrchr(url, ':') + 1, NULL, 10));
    return ahoy_server_wait(server) ? (ahoy_perror("wait"), EXIT_FAILURE) : EXIT_SUCCESS;
}
