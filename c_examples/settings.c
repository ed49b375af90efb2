/*
 * settings: nodes that share their settings. Each line typed is a change: "name=value" sets, "name=" deletes, "name" shows.
 * Every node prints what has changed, whoever has changed it; what there was it prints at the start.
 *
 *     cc -o settings settings.c $(pkg-config --cflags --libs ahoy)
 *     ./settings nats://127.0.0.1:4222/demo     as many as you like, on as many machines
 *     ./settings settings.db                    one, which keeps them in a file
 */
#include <ahoy.h>
#include <stdio.h>
#include <string.h>

static void on_change(ahoy_kv kv, ahoy_status status, const ahoy_kv_entry *entry, void *user)
{
    (void)kv, (void)status, (void)user;
    if (entry == NULL)
        puts("(that is all there was)");
    else if (entry->operation == AHOY_KV_DELETE)
        printf("%s is gone\n", (const char *)entry->key);
    else
        printf("%s=%s\n", (const char *)entry->key, (const char *)entry->value); /* zero bytes follow both */
    fflush(stdout);
}

static ahoy_status change(ahoy_kv kv, const char *name, const char *value)
{
    char is[1024] = "";
    uint64_t revision = 0;
    ahoy_status status = ahoy_kv_get_wait(kv, name, 0, is, sizeof is, NULL, &revision);

    if (value == NULL) {
        if (status == AHOY_OK) printf("%s=%s (revision %llu)\n", name, is, (unsigned long long)revision);
        fflush(stdout);
        return status;
    }
    if (*value == '\0') return ahoy_kv_delete_wait(kv, name, 0, revision);
    /* Only if nobody has changed it since it was read: two who change one setting at once cannot both succeed. */
    if (status == AHOY_ERR_NO_KEY) return ahoy_kv_create_wait(kv, name, 0, value, strlen(value), NULL, NULL);
    if (status != AHOY_OK) return status;
    return ahoy_kv_update_wait(kv, name, 0, value, strlen(value), revision, NULL, NULL);
}

int main(int argc, char **argv)
{
    const char *where = argc == 2 ? argv[1] : "-";
    int is_cluster = strstr(where, "://") != NULL;
    ahoy_cluster_options joining = { .size = sizeof joining, .join_ms = 5000 };
    ahoy_server_options options = { .size = sizeof options, .listen = "tcp://127.0.0.1:0",
                                    .cluster = is_cluster ? where : NULL, .cluster_options = &joining };
    ahoy_kv_options keeping = { .size = sizeof keeping, .path = is_cluster ? NULL : where };
    ahoy_server server;
    ahoy_kv kv;
    char line[1024];

    if (*where == '-') return fprintf(stderr, "usage: settings CLUSTER-URL | FILE\n"), 2;
    if (ahoy_server_start(&options, &server)) return ahoy_perror("start"), 1;
    if (ahoy_kv_open(server, "settings", &keeping, &kv)) return ahoy_perror("open"), 1;
    if (ahoy_kv_watch(kv, NULL, 0, on_change, NULL, NULL, NULL)) return ahoy_perror("watch"), 1;
    while (fgets(line, sizeof line, stdin) != NULL) {
        char *value;

        line[strcspn(line, "\r\n")] = '\0';
        if ((value = strchr(line, '=')) != NULL) *value++ = '\0';
        if (change(kv, line, value)) ahoy_perror(line);
    }
    ahoy_server_free(server);
    return 0;
}
