/*
 * publish_nats URL SUBJECT COUNT BYTES: publishes with nats.c as its examples do, waits until the server has all of it, and
 * prints how many messages a second that was.
 */
#include <nats/nats.h>
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
    natsConnection *connection;
    if (argc != 5) return 2;
    long count = atol(argv[3]), bytes = atol(argv[4]);
    char *data = malloc((size_t)bytes);
    memset(data, 'x', (size_t)bytes);
    if (natsConnection_ConnectTo(&connection, argv[1]) != NATS_OK) return 1;
    double began = now_s();
    for (long i = 0; i < count; i++)
        if (natsConnection_Publish(connection, argv[2], data, (int)bytes) != NATS_OK) return 1;
    if (natsConnection_Flush(connection) != NATS_OK) return 1;
    printf("%.0f\n", (double)count / (now_s() - began));
    natsConnection_Destroy(connection);
    nats_Close();
    free(data);
    return 0;
}
