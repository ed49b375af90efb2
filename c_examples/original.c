/*
 * original: the well-known tutorial server, its socket(), setsockopt(), bind(), listen(), accept(),
 * read() and send() replaced by one call. Same port, same output: it greets one client and exits.
 *
 *     cc -o original original.c $(pkg-config --cflags --libs ahoy)
 *     ./original                     listens on tcp://0.0.0.0:8888; another URL may follow
 *
 * From another terminal:  printf hi | nc -N 127.0.0.1 8888
 */
#include <ahoy.h>
#include <stdio.h>
#include <stdlib.h>

int main(int argc, char **argv)
{
    const char *url = argc > 1 ? argv[1] : NULL;
    char buffer[1024 + 1]; /* what the tutorial reads, and the zero byte that ends it */

    if (ahoy_greet_once(url, "Hello from server", buffer, sizeof buffer, NULL) != AHOY_OK) {
        ahoy_perror("greet");
        exit(EXIT_FAILURE);
    }
    printf("%s\n", buffer);
    printf("Hello message sent\n");
    return 0;
}
