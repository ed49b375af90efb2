/*
 * echo: sends back what comes in, until Ctrl-C. A client that writes without reading has to wait.
 *
 *     cc -o echo echo.c $(pkg-config --cflags --libs ahoy)
 *     ./echo                         listens on tcp://127.0.0.1:9000; another URL may follow
 */
#define _POSIX_C_SOURCE 200809L
#include <ahoy.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct kept { size_t len; char data[]; }; /* the message that a full queue refused */

static void on_message(ahoy_conn conn, const void *data, size_t len, void *user)
{
    ahoy_status status = ahoy_send(conn, data, len);
    (void)user;
    if (status == AHOY_OK) return;

    struct kept *kept = status == AHOY_ERR_AGAIN ? malloc(sizeof *kept + len) : NULL;
    if (kept == NULL || ahoy_conn_set_user(conn, kept, free) != AHOY_OK) {
        free(kept);
        ahoy_conn_close(conn); /* rather the end than an echo with a hole */
        return;
    }
    kept->len = len;
    memcpy(kept->data, data, len);
    ahoy_conn_pause(conn);
}

static void on_writable(ahoy_conn conn, void *user)
{
    struct kept *kept = user;
    if (kept == NULL || ahoy_send(conn, kept->data, kept->len) != AHOY_OK) return;
    ahoy_conn_set_user(conn, NULL, NULL); /* frees kept */
    ahoy_conn_resume(conn);
}

int main(int argc, char **argv)
{
    ahoy_server_options options = { .size = sizeof options, .on_message = on_message,
        .on_writable = on_writable, .listen = argc > 1 ? argv[1] : "tcp://127.0.0.1:9000" };
    ahoy_server server;
    char address[128];
    sigset_t signals;

    sigemptyset(&signals);
    sigaddset(&signals, SIGINT);
    sigprocmask(SIG_BLOCK, &signals, NULL); /* so that Ctrl-C ends the wait, not the process */
    if (ahoy_server_start(&options, &server) ||
        ahoy_server_address(server, 0, address, sizeof address)) return ahoy_perror("echo"), 1;
    fprintf(stderr, "echo: listening on %s\n", address);
    int got;
    sigwait(&signals, &got);
    ahoy_server_stop(server, AHOY_DRAIN_DEFAULT);
    ahoy_server_wait(server);
    return ahoy_server_free(server), 0;
}
