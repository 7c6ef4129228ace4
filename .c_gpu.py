import torch, time, statistics as st, transformers, cProfile, pstats, sys
sys.path.insert(0,"tests/benchmarks")
from importance_overhead import SMOLLM2_135M
from espalier.models.families import probes, shape_of
from espalier.surgery import importance as I
cfg=SMOLLM2_135M|{"num_hidden_layers":30}
m=transformers.LlamaForCausalLM(transformers.AutoConfig.for_model(**cfg)).cuda().bfloat16().eval()
x=torch.randint(0,49152,(4,1024),device="cuda")
def body(): m.base_model(input_ids=x,use_cache=False)
def plain():
    with torch.no_grad(): body()
def measured(meter):
    with meter.microbatch(None): body()
def t(f,n=25):
    for _ in range(3): f()
    r=[]
    for _ in range(n):
        torch.cuda.synchronize(); a=time.perf_counter(); f(); b=time.perf_counter(); torch.cuda.synchronize(); r.append((time.perf_counter()-a, b-a))
    return f"{1e3*st.median(v[0] for v in r):.2f} total {1e3*st.median(v[1] for v in r):.2f} cpu"
print("plain",t(plain),t(plain))
W,L,A=I.Meter.watch,I.Meter.watch_layer,I.Meter._add
def variant(name,w,l,a):
    I.Meter.watch,I.Meter.watch_layer,I.Meter._add=w,l,a
    with I.measuring(m,probes(cfg),shape_of(cfg)) as meter: print(name,t(lambda: measured(meter)))
no=lambda *a:None
variant("full",W,L,A); variant("hooks only",no,no,no); variant("watch",W,no,no); variant("layers",no,L,no); variant("no add",W,L,no)
print("plain",t(plain))
I.Meter.watch,I.Meter.watch_layer,I.Meter._add=W,L,A
from torch.profiler import profile, ProfilerActivity
with I.measuring(m,probes(cfg),shape_of(cfg)) as meter:
    measured(meter)
    with profile(activities=[ProfilerActivity.CPU,ProfilerActivity.CUDA]) as p: measured(meter); torch.cuda.synchronize()
print(p.key_averages().table(sort_by="self_cuda_time_total",row_limit=14,max_name_column_width=60)[:5000])
