/*
 * hello: a whole greeting server in one call: every core, bounded, with a graceful stop.
 *
 *     cc -o hello hello.c $(pkg-config --cflags --libs ahoy)
 *     ./hello                                      listens on tcp://0.0.0.0:8888 until Ctrl-C
 *     ./hello tcp://127.0.0.1:9000 'Good morning'  another address, another greeting
 *     systemd-socket-activate -l 8888 ./hello systemd:   started for the first client, on systemd's socket
 *
 * From another terminal:  printf hi | nc -N 127.0.0.1 8888
 */
#include <ahoy.h>
#include <stddef.h>

int main(int argc, char **argv)
{
    const char *url = argc > 1 ? argv[1] : NULL;      /* NULL: tcp://0.0.0.0:8888 */
    const char *greeting = argc > 2 ? argv[2] : NULL; /* NULL: Hello from server */

    if (ahoy_serve(url, greeting) != AHOY_OK) {
        ahoy_perror("hello");
        return 1;
    }
    return 0;
}
