# Plans, switches, and what stops them.
BeforeAll {
    . "$PSScriptRoot/Shared.ps1"
    Import-Module $Module
}

Describe 'A plan' {
    BeforeAll { $env:VMATRIX_POOL = New-TestPool }
    AfterAll { $env:VMATRIX_POOL = $null }

    It 'is printed by -WhatIf, a line a move with no reason and no id, and nothing is changed' {
        $said = & ([Environment]::ProcessPath) -NoProfile -NonInteractive -Command "`$PSStyle.OutputRendering = 'PlainText'; Import-Module '$Module'; Invoke-VMatrixSwitch -WhatIf; New-VMatrixServer FINANCE -WhatIf"
        ($said -match '^  \d\. ').Count | Should -Be 4
        $said | Should -Contain '  2. Wake FINANCE-1, Nest -> Matrix on host1'
        $said -join "`n" | Should -Not -Match 'needs 1 and is granted|[0-9a-f]{8}-[0-9a-f]{4}'
        $said[-1] | Should -BeLike 'What if:*Create in the Nest*FINANCE*'
        Invoke-VMatrixSwitch -WhatIf -PassThru | Should -BeNullOrEmpty
        Get-VMatrixServer | Should -BeNullOrEmpty
        Get-VMatrixMove | Should -BeNullOrEmpty
    }

    It 'is an object whose moves have reasons' {
        $plan = New-VMatrixPlan
        $plan | Should -BeOfType VMatrix.Plan
        $plan.Moves.Count | Should -BeGreaterThan 1
        $plan.Moves.Reason | Should -Not -Contain $null
        $plan.Decisions.Service | Should -Be 'FINANCE', 'SPORTS'
        Get-VMatrixServer | Should -BeNullOrEmpty
    }

    It 'is carried out by its id, and not as the object says' {
        $plan = New-VMatrixPlan
        $dead = $plan | ConvertTo-Json -Depth 5 | ConvertFrom-Json
        $dead.Moves | ForEach-Object { $_.ToHost = 'nowhere'; $_.ServerName = 'EVIL' }
        $records = $dead | Invoke-VMatrixSwitch -PassThru
        $records.Id | Sort-Object | Should -Be ($plan.Moves.Id | Sort-Object)
        $records.Status | Select-Object -Unique | Should -Be 'Done'
        $records.PlanId | Select-Object -Unique | Should -Be $plan.Id
        (Get-VMatrixServer).Name | Should -Not -Contain 'EVIL'
        (Get-VMatrixServer -Stage Matrix).Service | Sort-Object | Should -Be 'FINANCE', 'SPORTS'
    }

    It 'that is not there is an error' {
        $complaints = $null
        Invoke-VMatrixSwitch -Plan ([guid]::NewGuid()) -ErrorAction SilentlyContinue -ErrorVariable complaints
        $complaints[0].FullyQualifiedErrorId | Should -Be 'PlanNotFound,VMatrix.Commands.InvokeVMatrixSwitchCommand'
    }

    It 'that has nothing to do does nothing, and says why' {
        $before = @(Get-VMatrixMove).Count
        Invoke-VMatrixSwitch -PassThru | Should -BeNullOrEmpty
        @(Get-VMatrixMove).Count | Should -Be $before
        $plan = New-VMatrixPlan
        $plan.Moves.Count | Should -Be 0
        $plan.Summary | Should -BeLike 'Nothing to do*'
        $plan.Decisions.Reason | ForEach-Object { $_ | Should -Match '\d' }
    }

    It 'tells reasons with -Verbose' {
        $pool = New-TestPool
        $said = Invoke-VMatrixSwitch -Pool $pool -WhatIf -Verbose 4>&1
        "$said" | Should -Match 'Wake FINANCE-1, Nest -> Matrix on host1: FINANCE has 0'
    }
}

Describe 'Switching until stopped' {
    It 'is the one decider, ends at a stop, and leaves the servers running' {
        $pool = New-TestPool
        $shell = [powershell]::Create()
        try {
            $null = $shell.AddScript("Import-Module '$Module'; Invoke-VMatrixSwitch -Pool '$pool' -Continuous -Interval 00:00:00.2 -PassThru")
            $out = [System.Management.Automation.PSDataCollection[psobject]]::new()
            $run = $shell.BeginInvoke([System.Management.Automation.PSDataCollection[psobject]]::new(), $out)
            # Its moves come down the pipeline while it runs.
            $patience = [System.Diagnostics.Stopwatch]::StartNew()
            $moves = @()
            while ($moves.Count -lt 2 -and $patience.Elapsed.TotalSeconds -lt 60) {
                Start-Sleep -Milliseconds 50
                $moves += @($out.ReadAll() | Where-Object { $_.Move.ToStage -eq 'Matrix' })
            }
            $moves.Count | Should -BeGreaterOrEqual 2
            (Get-VMatrixPool $pool).Decider | Should -BeLike "Invoke-VMatrixSwitch*$PID*"

            $complaints = $null
            New-VMatrixPlan -Pool $pool | Invoke-VMatrixSwitch -Pool $pool -ErrorAction SilentlyContinue -ErrorVariable complaints
            $complaints[0].FullyQualifiedErrorId | Should -Be 'DeciderBusy,VMatrix.Commands.InvokeVMatrixSwitchCommand'
            $complaints[0].CategoryInfo.Category | Should -Be 'ResourceBusy'
            $complaints[0].Exception.Message | Should -BeLike "*Invoke-VMatrixSwitch*$PID*"

            $shell.Stop()
            $run.IsCompleted | Should -BeTrue
            $shell.InvocationStateInfo.State | Should -Be 'Stopped'
            (Get-VMatrixPool $pool).Decider | Should -BeNullOrEmpty
            (Get-VMatrixServer -Pool $pool -Stage Matrix).Power | Select-Object -Unique | Should -Be 'Running'
            Get-VMatrixMove -Pool $pool -Status Running, Pending, Interrupted | Should -BeNullOrEmpty
        }
        finally { $shell.Dispose() }
    }
}

Describe 'Switching on where moves wait for approval' {
    It 'tells once how to approve them' {
        $pool = New-TestPool
        Add-Content $pool 'oracle: { mode: confirm, interval: 100ms }'
        $shell = [powershell]::Create()
        try {
            $null = $shell.AddScript("Import-Module '$Module'; Invoke-VMatrixSwitch -Pool '$pool' -Continuous")
            $run = $shell.BeginInvoke()
            $patience = [System.Diagnostics.Stopwatch]::StartNew()
            while ($shell.Streams.Warning.Count -eq 0 -and $patience.Elapsed.TotalSeconds -lt 120) { Start-Sleep -Milliseconds 50 }
            $told = "$($shell.Streams.Warning[0])"
            $told | Should -Match '^\d+ moves wait for an approval: Approve-VMatrixPlan -Id [0-9a-f-]{36}$'
            $id = $told.Split(' ')[-1]
            (Get-VMatrixPlan -Pool $pool -Status Waiting).Id | Should -Contain $id
            $null = Approve-VMatrixPlan -Id $id -Pool $pool
            while (@(Get-VMatrixServer -Pool $pool -Stage Matrix).Count -lt 2 -and $patience.Elapsed.TotalSeconds -lt 240) { Start-Sleep -Milliseconds 50 }
            @(Get-VMatrixServer -Pool $pool -Stage Matrix).Count | Should -BeGreaterOrEqual 2
            @($shell.Streams.Warning | Where-Object { "$_" -like "*$id" }).Count | Should -Be 1
            $shell.Stop()
            $run.IsCompleted | Should -BeTrue
        }
        finally { $shell.Dispose() }
    }
}

Describe 'A move that is stopped or fails' {
    It 'is brought to a whole state by Ctrl+C' {
        $pool = New-TestPool -Simulation 'bootTime: 30s', 'wakeTime: 30s'
        $server = New-VMatrixServer FINANCE -Pool $pool
        $shell = [powershell]::Create()
        try {
            $null = $shell.AddScript("Import-Module '$Module'; Move-VMatrixServer $($server.Id) -Stage Matrix -Pool '$pool'")
            $run = $shell.BeginInvoke()
            $patience = [System.Diagnostics.Stopwatch]::StartNew()
            while (-not (Get-VMatrixMove -Pool $pool -Status Running) -and $patience.Elapsed.TotalSeconds -lt 20) { Start-Sleep -Milliseconds 50 }
            Get-VMatrixMove -Pool $pool -Status Running | Should -Not -BeNullOrEmpty
            $shell.Stop()
            $run.IsCompleted | Should -BeTrue
            Get-VMatrixMove -Pool $pool -Status Running, Pending | Should -BeNullOrEmpty
            (Get-VMatrixServer -Pool $pool).Stage | Should -Be 'Nest'
        }
        finally { $shell.Dispose() }
    }

    It 'is an error that names the user''s input, and the others go on' {
        $pool = New-TestPool -Simulation 'bootTime: 50ms', 'wakeTime: 20ms', 'halfDead: [host2]'
        $servers = New-VMatrixServer FINANCE -Count 2 -Pool $pool
        $complaints = $null
        $null = Move-VMatrixServer $servers[0] -Destination host2 -Pool $pool -ErrorAction SilentlyContinue -ErrorVariable complaints
        $done = Move-VMatrixServer $servers[1] -Destination host1 -Pool $pool -PassThru
        $complaints[0].FullyQualifiedErrorId | Should -Match '^Move(Obstructed|Undone|Failed|Refused|Interrupted),VMatrix.Commands.MoveVMatrixServerCommand$'
        $complaints[0].TargetObject.Id | Should -Be $servers[0].Id
        $done.Host | Should -Be 'host1'
    }
}
