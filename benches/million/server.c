/*
 * The server that `make million` fills with connections. It answers what its load says:
 *
 *     ?           the same again
 *     +           the same again, from inside the topic
 *     m           its metrics, and a zero byte behind them
 *     any other   published to the topic
 */
#include <ahoy.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void answer(ahoy_conn conn, const void *data, size_t len, void *user)
{
    (void)user;
    char first = *(const char *)data;
    ahoy_status status;
    if (len > 1) {
        status = ahoy_publish(ahoy_conn_server(conn), "all", data, len);
    } else if (first == 'm') {
        char text[16 << 10];
        size_t length;
        status = ahoy_metrics_text(ahoy_conn_server(conn), text, sizeof text, &length);
        if (!status)
            status = ahoy_send(conn, text, length + 1);
    } else {
        status = first == '+' ? ahoy_conn_join(conn, "all") : AHOY_OK;
        if (!status)
            status = ahoy_send(conn, data, len);
    }
    if (status) {
        ahoy_perror("server");
        ahoy_conn_close(conn);
    }
}

int main(int argc, char **argv)
{
    int is_uring = argc == 2 && !strcmp(argv[1], "uring");
    if (argc != 2 || (!is_uring && strcmp(argv[1], "epoll")))
        return fprintf(stderr, "usage: %s epoll|uring\n", argv[0]), 2;

    ahoy_server_options options = {
        .size = sizeof options,
        .listen = "tcp://127.0.0.1:0",
        .workers = 1,
        .on_message = answer,
        .connections_max = 2000000,
        .driver = is_uring ? AHOY_DRIVER_URING : AHOY_DRIVER_EPOLL,
    };
    ahoy_server server;
    char url[128];
    if (ahoy_server_start(&options, &server) || ahoy_server_address(server, 0, url, sizeof url))
        return ahoy_perror("server"), EXIT_FAILURE;
    printf("port %s\n", strrchr(url, ':') + 1);
    if (fflush(stdout))
        return perror("stdout"), EXIT_FAILURE;
    return ahoy_server_wait(server) ? (ahoy_perror("wait"), EXIT_FAILURE) : EXIT_SUCCESS;
}
