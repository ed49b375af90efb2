/* hear_nats URL SUBJECT COUNT: subscribes with nats.c, prints "ready", and, when so many messages were heard, the seconds
 * from the first to the last. */
#include <nats.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
static double now_s(void){ struct timespec n; clock_gettime(CLOCK_MONOTONIC,&n); return n.tv_sec+n.tv_nsec/1e9; }
int main(int argc,char**argv){
  natsConnection*c; natsSubscription*s; natsMsg*m; natsOptions*o; long n=atol(argv[3]);
  natsOptions_Create(&o); natsOptions_SetURL(o,argv[1]);
  if(natsConnection_Connect(&c,o)||natsConnection_SubscribeSync(&s,c,argv[2])||natsSubscription_SetPendingLimits(s,-1,-1)||natsConnection_Flush(c)) return 1;
  puts("ready"); fflush(stdout); double b=0; long i;
  for(i=0;i<n;i++){ if(natsSubscription_NextMsg(&m,s,20000)) break; if(!i) b=now_s(); natsMsg_Destroy(m);}
  printf("%ld %.3f\n", i, now_s()-b); return 0; }
