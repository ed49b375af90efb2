/*
 * greet_fd: a program that already has its sockets and its accept loop. One call greets each client;
 * the descriptors stay the program's own.
 *
 *     cc -o greet_fd greet_fd.c $(pkg-config --cflags --libs ahoy)
 *     ./greet_fd                     listens on port 8888; another port may follow (0: any free one)
 */
#include <ahoy.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

static void fail(const char *call)
{
    perror(call);
    exit(EXIT_FAILURE);
}

int main(int argc, char **argv)
{
    struct sockaddr_in address = { .sin_family = AF_INET };
    socklen_t address_bytes = sizeof address;
    struct timeval patience = { .tv_sec = 10 };
    char *end = "";
    long port = argc > 1 ? strtol(argv[1], &end, 10) : 8888;
    int on = 1, listener;

    if (argc > 2 || *end != '\0' || end == argv[1] || port < 0 || port > 65535)
        return fprintf(stderr, "usage: greet_fd [PORT]\n"), 2;
    listener = socket(AF_INET, SOCK_STREAM, 0);
    if (listener < 0) fail("socket");
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    address.sin_addr.s_addr = htonl(INADDR_ANY);
    address.sin_port = htons((uint16_t)port);
    if (bind(listener, (struct sockaddr *)&address, sizeof address) < 0) fail("bind");
    if (listen(listener, 3) < 0) fail("listen");
    if (getsockname(listener, (struct sockaddr *)&address, &address_bytes) < 0) fail("getsockname");
    fprintf(stderr, "greet_fd: listening on port %d\n", ntohs(address.sin_port));

    for (;;) {
        char said[1024 + 1];
        int client = accept(listener, NULL, NULL);

        if (client < 0) fail("accept");
        /* The greeting honours the socket's own timeouts: a silent client cannot hold the loop. */
        setsockopt(client, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
        if (ahoy_greet_fd(client, "Hello from server", said, sizeof said, NULL) == AHOY_OK) {
            printf("%s\n", said);
            fflush(stdout);
        } else {
            ahoy_perror("greet");
        }
        close(client);
    }
}
