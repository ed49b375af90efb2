/*
 * A server on a free port: prints its URL and "ready", serves until its input ends, then stops, and checks
 * that what it was told adds up.
 */
#include <ahoy.h>
#include <stdio.h>
#include <string.h>

int main(void)
{
    ahoy_server_options options = { .size = sizeof options, .listen = "tcp://127.0.0.1:0", .workers = 2 };
    ahoy_stats stats = { .size = sizeof stats };
    ahoy_server server;
    char url[128];

    if (strcmp(ahoy_version(), AHOY_VERSION) != 0) {
        fprintf(stderr, "library %s, header %s\n", ahoy_version(), AHOY_VERSION);
        return 1;
    }
    if (ahoy_server_start(&options, &server) || ahoy_server_address(server, 0, url, sizeof url)) {
        ahoy_perror("serve");
        return 1;
    }
    printf("%s\nready\n", url);
    fflush(stdout);
    while (getchar() != EOF) {}

    if (ahoy_server_stop(server, AHOY_DRAIN_DEFAULT) || ahoy_server_wait(server)
            || ahoy_server_stats(server, &stats)) {
        ahoy_perror("stop");
        return 1;
    }
    ahoy_server_free(server);
    if (ahoy_server_stop(server, 0) != AHOY_ERR_STALE) {
        fprintf(stderr, "the handle outlives its server\n");
        return 1;
    }
    return stats.opened == 1 && stats.closed == 1 && stats.messages_in == 1 ? 0 : 1;
}
