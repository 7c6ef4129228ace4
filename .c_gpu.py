import torch, time
def g(f,n=50):
    for _ in range(5): f()
    torch.cuda.synchronize(); a=torch.cuda.Event(enable_timing=True); b=torch.cuda.Event(enable_timing=True)
    a.record(); t=time.perf_counter()
    for _ in range(n): f()
    c=time.perf_counter()-t; b.record(); torch.cuda.synchronize()
    return f"gpu {1e3*a.elapsed_time(b)/n:7.1f} us cpu {1e6*c/n:6.1f} us"
for B in (4,32):
  for N in (576,1536):
    x=torch.randn(B,1024,N,device="cuda",dtype=torch.bfloat16); y=torch.randn_like(x); m=torch.ones(B,1024,device="cuda",dtype=torch.bool); m[:,-9:]=False
    w=m.to(x.dtype)[:,None]; inv=(~m)[...,None]
    print(B,N)
    V=torch.linalg.vector_norm
    F={"vnorm":lambda:V(x,ord=1,dim=1,dtype=torch.float32),"fill+vnorm":lambda:V(x.masked_fill(inv,0),ord=1,dim=1,dtype=torch.float32),
     "abs":lambda:x.abs(),"abs+bmm":lambda:torch.bmm(w,x.abs()),"abs+bmm32":lambda:torch.bmm(w,x.abs(),out_dtype=torch.float32),"abs+sum":lambda:x.abs().sum(1,dtype=torch.float32),
     "mul+vnorm":lambda:V(x*w.mT,ord=1,dim=1,dtype=torch.float32),
     "len":lambda:V(x,dim=-1,dtype=torch.float32),"sub":lambda:x-y,"vecdot":lambda:torch.linalg.vecdot(x,y),"cos":lambda:torch.nn.functional.cosine_similarity(x,y,dim=-1),"copy":lambda:x.clone()}
    for k,f in F.items():
        try: print(f"  {k:12}",g(f))
        except Exception as e: print("  ",k,"fails",str(e)[:80])
