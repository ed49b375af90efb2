/*
 * publish_ahoy CLUSTER-URL TOPIC COUNT BYTES: publishes with ahoy_publish, waits until the server has all of it (a request
 * behind it on the same connection is answered), and prints how many messages a second that was.
 */
#include <ahoy.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static double now_s(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

int main(int argc, char **argv)
{
    if (argc != 5) return 2;
    long count = atol(argv[3]), bytes = atol(argv[4]);
    char *data = malloc((size_t)bytes);
    memset(data, 'x', (size_t)bytes);
    ahoy_cluster_options particulars = { .size = sizeof particulars, .join_ms = 5000 };
    ahoy_server_options options = { .size = sizeof options, .workers = 1, .cluster = argv[1],
        .cluster_options = &particulars };
    ahoy_server server;
    if (ahoy_server_start(&options, &server)) return ahoy_perror("start"), 1;
    double began = now_s();
    for (long i = 0; i < count; i++) {
        ahoy_status status;
        while ((status = ahoy_publish(server, argv[2], data, (size_t)bytes)) == AHOY_ERR_AGAIN) {
            /* As much waits as may: let it be sent. */
            nanosleep(&(struct timespec){ .tv_nsec = 50000 }, NULL);
        }
        if (status) return ahoy_perror("publish"), 1;
    }
    ahoy_server_stop(server, 60000);
    ahoy_server_wait(server);
    printf("%.0f\n", (double)count / (now_s() - began));
    ahoy_server_free(server);
    free(data);
    return 0;
}
