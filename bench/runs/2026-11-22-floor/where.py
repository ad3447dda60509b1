#!/usr/bin/env python3
"""Nanoseconds of CPU a delivery by symbol, from what where.sh left: where.py loop hub."""
import json
import subprocess
import sys
def load(k):
    d=json.load(open(f'{k}.1.json'))['results']['server_cpu_us_per_delivery']
    out=subprocess.run(['perf','report','-i',f'{k}.data','--stdio','--no-children','-s','comm,dso,sym'],capture_output=True,text=True).stdout
    rows={}
    for l in out.splitlines():
        l=l.strip()
        if not l or l[0]=='#' or '%' not in l: continue
        p,_,n=l.partition('%'); rows[' '.join(n.split())]=rows.get(' '.join(n.split()),0)+float(p)*d*10
    return rows
R={k:load(k) for k in sys.argv[1:]}
for k,r in R.items():
    u=sum(v for n,v in r.items() if '[.]' in n); kk=sum(v for n,v in r.items() if '[k]' in n)
    comm={}
    for n,v in r.items(): comm[n.split()[0]]=comm.get(n.split()[0],0)+v
    print(k,'user %.0f ns kernel %.0f ns'%(u,kk),{c:round(v) for c,v in comm.items()})
a,b=sys.argv[1:3]
def bysym(r):
    o={}
    for n,v in r.items():
        s=n.split('[k]')[-1] if '[k]' in n else n.split('[.]')[-1]+' (user)'
        o[s.strip()]=o.get(s.strip(),0)+v
    return o
x,y=bysym(R[a]),bysym(R[b])
d=sorted(((y.get(n,0)-x.get(n,0),n) for n in set(x)|set(y)),reverse=True)
print('more in',b)
for v,n in d[:25]: print(f'{v:7.0f} ns {n}  {x.get(n,0):.0f} -> {y.get(n,0):.0f}')
print('less'); 
for v,n in d[-8:]: print(f'{v:7.0f} ns {n}')
