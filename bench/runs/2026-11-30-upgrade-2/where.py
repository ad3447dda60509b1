import socket,sys,time
host,port=sys.argv[1].rsplit(':',1)
end=time.time()+float(sys.argv[2])
last=None
while time.time()<end:
    t=time.time()
    try:
        s=socket.create_connection((host,int(port)),2); s.settimeout(2)
        s.sendall(b"GET /metrics HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
        b=b""
        while True:
            d=s.recv(65536)
            if not d: break
            b+=d
        s.close()
    except OSError as e:
        print(f"{t:.3f} error {e}"); continue
    behind=sum(int(float(l.split()[-1])) for l in b.decode().splitlines() if l.startswith("gush_subscribers_behind"))
    taken=sum(int(float(l.split()[-1])) for l in b.decode().splitlines() if l.startswith("gush_streams_taken_over_total"))
    reads=sum(int(float(l.split()[-1])) for l in b.decode().splitlines() if l.startswith("gush_replay_reads_total"))
    cur=(behind//100,taken,reads)
    if cur!=last: print(f"{t:.3f} behind {behind} taken {taken} reads {reads} took {time.time()-t:.3f}"); last=cur
    time.sleep(0.02)
