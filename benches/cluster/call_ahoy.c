/*
 * call_ahoy CLUSTER-URL SERVICE COUNT: calls a service, one call after the other, and prints the median of their times in
 * microseconds.
 */
#include <ahoy.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static double now_us(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1e6 + (double)now.tv_nsec / 1e3;
}

static int compare(const void *left, const void *right)
{
    double a = *(const double *)left, b = *(const double *)right;
    return (a > b) - (a < b);
}

int main(int argc, char **argv)
{
    if (argc != 4) return 2;
    long count = atol(argv[3]);
    double *times = calloc((size_t)count, sizeof *times);
    char answer[256];
    ahoy_cluster_options particulars = { .size = sizeof particulars, .join_ms = 5000 };
    ahoy_server_options options = { .size = sizeof options, .workers = 1, .cluster = argv[1],
        .cluster_options = &particulars };
    ahoy_server server;
    if (!times || ahoy_server_start(&options, &server)) return ahoy_perror("start"), 1;
    for (long i = 0; i < count; i++) {
        double began = now_us();
        if (ahoy_call_wait(server, argv[2], "hi", 2, NULL, answer, sizeof answer, NULL)) return ahoy_perror("call"), 1;
        times[i] = now_us() - began;
    }
    qsort(times, (size_t)count, sizeof *times, compare);
    printf("%.1f\n", times[count / 2]);
    ahoy_server_free(server);
    free(times);
    return 0;
}
